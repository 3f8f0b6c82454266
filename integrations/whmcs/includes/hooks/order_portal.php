<?php
/**
 * Tells the order portal what happened in WHMCS: orders, services, payment methods.
 *
 * A hook only writes a line into an outbox table: nobody in WHMCS waits for the portal. WHMCS' cron then posts what is
 * there, signed, and tries again what wasn't taken. Only the portal's own orders are told of: those that bear its mark.
 * What couldn't be kept or was given up is in the activity log. Fields are picked by name: a hook's variables hold
 * passwords, and none of them is ever read. Install: see INSTALL.md beside this folder. PHP 7.2 or newer.
 */

use WHMCS\Database\Capsule;

if (!defined('WHMCS')) {
    die('This file cannot be accessed directly');
}

if (!class_exists('OrderPortalHook')) {
    final class OrderPortalHook
    {
        const TABLE = 'mod_order_portal_outbox';
        const STATE_TABLE = 'mod_order_portal_state';
        const MARK = 'sfOrderId=';     // in an order's notes, or in a custom field of its service
        const BATCH = 100;             // events read from the outbox at once, …
        const BATCH_PAYMETHODS = 25;   // … of these at most so many about payment methods, the newest first
        const MOST = 5000;             // events a cron run posts at most, and payment methods it looks at,
        const RUN_SECONDS = 60;        // … and how long it goes on beginning new ones
        const POST_SECONDS = 10;
        const CLAIM_SECONDS = 120;     // another cron run leaves an event alone for so long
        const KEEP_SECONDS = 604800;   // an event not taken within a week is of no use any more
        const LONGEST_PAUSE = 3600;

        /** Put an event into the outbox; $data holds ids and short words only. Never disturbs WHMCS. False: not kept. */
        public static function tell(string $event, array $data): bool
        {
            $known = array_filter($data, function ($value) { return $value !== null && $value !== ''; });
            $text = json_encode(array_map('strval', $known));
            try {
                self::prepare();
                Capsule::table(self::TABLE)->insert([
                    'event_id' => 'whmcs_' . bin2hex(random_bytes(12)),
                    'event' => $event,
                    'occurred_at' => gmdate('Y-m-d\TH:i:s\Z'),
                    'data' => $text,
                    'attempts' => 0,
                    'next_try' => 0,
                    'created' => time(),
                ]);
                return true;
            } catch (\Throwable $error) {
                self::note('could not keep the event ' . $event . ' ' . $text . ': ' . get_class($error));
                return false;
            }
        }

        /** Something happened to a service: $params are a module's, with its password among them. */
        public static function tellOfService(string $event, string $status, $params): void
        {
            $params = is_array($params) ? $params : [];
            $serviceId = isset($params['serviceid']) ? (int) $params['serviceid'] : 0;
            if ($serviceId < 1) {
                return;
            }
            $orderId = null;
            try {
                $orderId = Capsule::table('tblhosting')->where('id', $serviceId)->value('orderid');
                if (!self::isOurs((int) $orderId, $serviceId)) {
                    return;
                }
            } catch (\Throwable $error) {
                self::note('could not look up the order of service ' . $serviceId);
            }
            self::tell($event, [
                'serviceId' => $serviceId,
                'orderId' => $orderId ? (int) $orderId : null,
                'clientId' => isset($params['userid']) ? (int) $params['userid'] : null,
                'productId' => isset($params['pid']) ? (int) $params['pid'] : null,
                'status' => $status,
            ]);
        }

        /** Something happened to an order. */
        public static function tellOfOrder(string $event, string $status, $vars): void
        {
            $orderId = is_array($vars) && isset($vars['orderid']) ? (int) $vars['orderid'] : 0;
            if ($orderId < 1) {
                return;
            }
            $clientId = null;
            try {
                if (!self::isOurs($orderId, null)) {
                    return;
                }
                $clientId = Capsule::table('tblorders')->where('id', $orderId)->value('userid');
            } catch (\Throwable $error) {
                self::note('could not look up the client of order ' . $orderId);
            }
            self::tell($event, [
                'orderId' => $orderId,
                'clientId' => $clientId ? (int) $clientId : null,
                'status' => $status,
            ]);
        }

        /**
         * Whether an order is one of the portal's. Where no mark has ever been seen (a WHMCS that doesn't keep an order's
         * notes), any may be. Orders that the portal took over unmarked it follows by itself.
         */
        private static function isOurs(int $orderId, $serviceId): bool
        {
            self::prepare();
            $notes = (string) Capsule::table('tblorders')->where('id', $orderId)->value('notes');
            $marked = strpos($notes, self::MARK) !== false;
            if (!$marked) {
                $services = $serviceId !== null ? [$serviceId] : [];
                if ($serviceId === null) {
                    foreach (Capsule::table('tblhosting')->where('orderid', $orderId)->get() as $service) {
                        $services[] = (int) $service->id;
                    }
                }
                foreach ($services as $each) {
                    $marked = $marked || Capsule::table('tblcustomfieldsvalues')->where('relid', $each)
                        ->where('value', 'like', '%' . self::MARK . '%')->value('value') !== null;
                }
            }
            $seen = self::state('marked') !== null;
            if ($marked && !$seen) {
                self::setState('marked', '1');
            }
            return $marked || !$seen;
        }

        /** WHMCS has no hook for a new payment method: tell of those newer than the last one seen, the newest first. */
        public static function findPayMethods(): void
        {
            try {
                self::prepare();
                $seen = self::state('paymethod');
                $newest = (int) Capsule::table('tblpaymethods')->max('id');
                if ($seen === null) {  // just installed: what is there already is no news
                    self::setState('paymethod', (string) $newest);
                    return;
                }
                $rows = Capsule::table('tblpaymethods')->where('id', '>', (int) $seen)
                    ->orderBy('id', 'desc')->limit(self::MOST)->get();
                // Once a client, however many cards an import has given it; the newest gets the outbox's highest id.
                foreach (array_reverse(self::newestOfEachClient($rows)) as $row) {
                    $kept = self::tell('paymethod.added',
                        ['clientId' => (int) $row->userid, 'payMethodId' => (int) $row->id]);
                    if (!$kept) {
                        return;  // it is in the log, and they are looked for again by the next run
                    }
                }
                $left = Capsule::table('tblpaymethods')->where('id', '>', (int) $seen)->count() - count($rows);
                if ($left > 0) {
                    self::note('the ' . $left . ' oldest of more than ' . self::MOST . ' new payment methods are not told');
                }
                self::setState('paymethod', (string) $newest);
            } catch (\Throwable $error) {
                self::note('could not look for payment methods: ' . get_class($error));
            }
        }

        private static function newestOfEachClient($rows): array
        {
            $found = [];
            foreach ($rows as $row) {
                if (!isset($found[(int) $row->userid])) {
                    $found[(int) $row->userid] = $row;
                }
            }
            return array_values($found);
        }

        /** Post what is due. Each event is claimed first, so that two cron runs don't post it at once. */
        public static function deliver(): void
        {
            list($url, $secret) = self::settings();
            if ($url === '' || $secret === '') {
                return;
            }
            $started = time();
            try {
                self::prepare();
                $old = Capsule::table(self::TABLE)->where('created', '<', $started - self::KEEP_SECONDS)->delete();
                if ($old > 0) {
                    self::note('gave up ' . $old . ' events that were not taken within a week');
                }
                $posted = 0;
                do {
                    $due = self::due();
                    foreach ($due as $row) {
                        if ($posted >= self::MOST || time() - $started > self::RUN_SECONDS) {
                            self::note('posted ' . $posted . ' events; the rest waits for the next cron run');
                            return;
                        }
                        $claimed = Capsule::table(self::TABLE)->where('id', $row->id)->where('next_try', $row->next_try)
                            ->update(['next_try' => time() + self::CLAIM_SECONDS]);
                        $posted++;
                        if ($claimed === 1 && !self::post($url, $secret, $row)) {
                            return;  // the portal is away: leave the rest for the next run
                        }
                    }
                } while (count($due) > 0);
            } catch (\Throwable $error) {
                self::note('could not empty the outbox: ' . get_class($error));
            }
        }

        /** The next events to post: a customer who has just added a card waits for an order, the others are history. */
        private static function due(): array
        {
            $payMethods = Capsule::table(self::TABLE)->where('next_try', '<=', time())
                ->where('event', 'paymethod.added')->orderBy('id', 'desc')->limit(self::BATCH_PAYMETHODS)->get();
            $others = Capsule::table(self::TABLE)->where('next_try', '<=', time())
                ->where('event', '<>', 'paymethod.added')->orderBy('id')->limit(self::BATCH)->get();
            $due = [];
            foreach ([$payMethods, $others] as $rows) {
                foreach ($rows as $row) {
                    $due[] = $row;
                }
            }
            return $due;
        }

        /** Post one event; false when the portal couldn't be reached or has no time. */
        private static function post(string $url, string $secret, $row): bool
        {
            $timestamp = gmdate('Y-m-d\TH:i:s\Z');
            $nonce = bin2hex(random_bytes(16));
            $body = json_encode([
                'id' => $row->event_id,
                'event' => $row->event,
                'occurredAt' => $row->occurred_at,
                'data' => (object) json_decode($row->data, true),
                'timestamp' => $timestamp,
                'nonce' => $nonce,
            ]);
            $status = self::send($url . '/webhooks/whmcs', $body, [
                'Content-Type: application/json',
                'Expect:',
                'X-WHMCS-Signature: ' . hash_hmac('sha256', $body, $secret),
                'X-WHMCS-Timestamp: ' . $timestamp,
                'X-WHMCS-Nonce: ' . $nonce,
            ]);
            if ($status >= 200 && $status < 300) {
                Capsule::table(self::TABLE)->where('id', $row->id)->delete();
                return true;
            }
            $attempts = (int) $row->attempts + 1;
            $pause = min(self::LONGEST_PAUSE, 30 * (2 ** min($attempts, 10)));
            Capsule::table(self::TABLE)->where('id', $row->id)
                ->update(['attempts' => $attempts, 'next_try' => time() + $pause]);
            self::note('event ' . $row->event_id . ' (' . $row->event . ') was not taken: '
                . ($status ? 'HTTP ' . $status : 'no answer') . ', attempt ' . $attempts);
            return $status !== 0 && $status !== 429 && $status < 500;
        }

        /** POST with cURL, or with PHP's own streams where there is no cURL; the status, 0 without an answer. */
        private static function send(string $url, string $body, array $headers): int
        {
            if (function_exists('curl_init')) {
                $curl = curl_init($url);
                curl_setopt_array($curl, [
                    CURLOPT_POST => true,
                    CURLOPT_POSTFIELDS => $body,
                    CURLOPT_HTTPHEADER => $headers,
                    CURLOPT_RETURNTRANSFER => true,
                    CURLOPT_FOLLOWLOCATION => false,
                    CURLOPT_CONNECTTIMEOUT => 5,
                    CURLOPT_TIMEOUT => self::POST_SECONDS,
                ]);
                curl_exec($curl);
                $status = (int) curl_getinfo($curl, CURLINFO_HTTP_CODE);
                unset($curl);
                return $status;
            }
            $context = stream_context_create(['http' => [
                'method' => 'POST',
                'header' => implode("\r\n", array_diff($headers, ['Expect:'])),
                'content' => $body,
                'timeout' => self::POST_SECONDS,
                'ignore_errors' => true,
                'follow_location' => 0,
            ]]);
            $stream = @fopen($url, 'rb', false, $context);
            if ($stream === false) {
                return 0;
            }
            $meta = stream_get_meta_data($stream);
            fclose($stream);
            $first = isset($meta['wrapper_data'][0]) ? (string) $meta['wrapper_data'][0] : '';
            return preg_match('~^HTTP/[0-9.]+ ([0-9]{3})~', $first, $found) ? (int) $found[1] : 0;
        }

        /** The portal's address and the secret: from configuration.php, else from the environment. */
        private static function settings(): array
        {
            $url = isset($GLOBALS['order_portal_url']) ? $GLOBALS['order_portal_url'] : getenv('ORDER_PORTAL_URL');
            $secret = isset($GLOBALS['order_portal_secret'])
                ? $GLOBALS['order_portal_secret'] : getenv('ORDER_PORTAL_SECRET');
            return [rtrim((string) $url, '/'), (string) $secret];
        }

        /** One line of the state table; null where it isn't there. */
        private static function state(string $name)
        {
            return Capsule::table(self::STATE_TABLE)->where('name', $name)->value('value');
        }

        private static function setState(string $name, string $value): void
        {
            if (self::state($name) === null) {
                Capsule::table(self::STATE_TABLE)->insert(['name' => $name, 'value' => $value]);
            } else {
                Capsule::table(self::STATE_TABLE)->where('name', $name)->update(['value' => $value]);
            }
        }

        private static function prepare(): void
        {
            static $ready = false;
            if ($ready) {
                return;
            }
            if (!Capsule::schema()->hasTable(self::TABLE)) {
                Capsule::schema()->create(self::TABLE, function ($table) {
                    $table->increments('id');
                    $table->string('event_id', 64);
                    $table->string('event', 64);
                    $table->string('occurred_at', 32);
                    $table->text('data');
                    $table->integer('attempts');
                    $table->integer('next_try');
                    $table->integer('created');
                    $table->index('next_try');
                });
            }
            if (!Capsule::schema()->hasTable(self::STATE_TABLE)) {
                Capsule::schema()->create(self::STATE_TABLE, function ($table) {
                    $table->string('name', 32);
                    $table->string('value', 64);
                });
            }
            $ready = true;
        }

        private static function note(string $what): void
        {
            if (function_exists('logActivity')) {
                logActivity('Order portal: ' . $what);
            }
        }
    }

    // AcceptOrder fires just before the order becomes Active: the portal looks for itself when the event arrives.
    add_hook('AcceptOrder', 1, function ($vars) { OrderPortalHook::tellOfOrder('order.accepted', 'Active', $vars); });
    add_hook('CancelOrder', 1, function ($vars) { OrderPortalHook::tellOfOrder('order.cancelled', 'Cancelled', $vars); });
    // Only newer versions of WHMCS have this one: where it doesn't exist nobody calls it.
    add_hook('CancelAndRefundOrder', 1, function ($vars) {
        OrderPortalHook::tellOfOrder('order.cancelled', 'Cancelled', $vars);
    });
    add_hook('FraudOrder', 1, function ($vars) { OrderPortalHook::tellOfOrder('order.cancelled', 'Fraud', $vars); });

    $orderPortalServices = [
        'AfterModuleCreate' => ['service.active', 'Active'],
        'AfterModuleCreateFailed' => ['service.failed', 'Pending'],
        'AfterModuleSuspend' => ['service.suspended', 'Suspended'],
        'AfterModuleUnsuspend' => ['service.active', 'Active'],
        'AfterModuleTerminate' => ['service.terminated', 'Terminated'],
    ];
    foreach ($orderPortalServices as $hook => $told) {
        add_hook($hook, 1, function ($vars) use ($told) {
            $params = is_array($vars) && isset($vars['params']) ? $vars['params'] : [];
            OrderPortalHook::tellOfService($told[0], $told[1], $params);
        });
    }

    add_hook('AfterCronJob', 1, function ($vars) {
        OrderPortalHook::findPayMethods();
        OrderPortalHook::deliver();
    });
}

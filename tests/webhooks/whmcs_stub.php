<?php
// Stands where WHMCS is, for the hook file: add_hook(), logActivity() and as much of Capsule as it uses, over a JSON file.
// php whmcs_stub.php DATABASE HOOK_FILE < [act, …], where an act is one of
//   {"insert": "tblorders", "row": {…}}   {"change": "tblorders", "row": {…}} (every row)   {"drop": "tblorders"}
//   {"fill": "tblorders", "rows": [{…}, …]} (all at once)
//   {"hook": "AfterModuleCreate", "vars": {…}}
// Prints what went to the activity log, a line each. Needs nothing but Debian's php-cli.

namespace WHMCS\Database {
    final class Capsule
    {
        public static $file;
        public static $tables = [];

        public static function open($file)
        {
            self::$file = $file;
            self::$tables = is_file($file) ? json_decode(file_get_contents($file), true) : [];
        }

        public static function save()
        {
            file_put_contents(self::$file, json_encode(self::$tables));
        }

        public static function table($name)
        {
            if (!isset(self::$tables[$name])) {
                throw new \RuntimeException("no such table: $name");
            }
            return new Query($name);
        }

        public static function schema() { return new Schema(); }
    }

    final class Schema
    {
        public function hasTable($name) { return isset(Capsule::$tables[$name]); }

        public function create($name, $describe)
        {
            $table = new Blueprint();
            $describe($table);
            Capsule::$tables[$name] = ['columns' => $table->columns, 'next' => 1, 'rows' => []];
            Capsule::save();
        }
    }

    final class Blueprint
    {
        public $columns = [];

        public function __call($kind, $arguments)
        {
            if (!in_array($kind, ['increments', 'string', 'text', 'integer', 'index'], true)) {
                throw new \RuntimeException("no such column kind: $kind");
            }
            if ($kind !== 'index') {
                $this->columns[$arguments[0]] = $kind;
            }
        }
    }

    final class Query
    {
        private $name;
        private $wheres = [];
        private $order = null;
        private $descending = false;
        private $limit = null;

        public function __construct($name) { $this->name = $name; }

        public function where($column, $operator, $value = null)
        {
            if (func_num_args() === 2) {
                list($operator, $value) = ['=', $operator];
            }
            $this->wheres[] = [$column, $operator, $value];
            return $this;
        }

        public function orderBy($column, $direction = 'asc')
        {
            list($this->order, $this->descending) = [$column, $direction === 'desc'];
            return $this;
        }

        public function limit($number) { $this->limit = $number; return $this; }

        public function get() { return array_map(function ($row) { return (object) $row; }, $this->found()); }

        public function value($column)
        {
            $rows = $this->found();
            return $rows ? $rows[0][$column] : null;
        }

        public function count() { return count($this->found()); }

        public function max($column)
        {
            $values = array_column($this->found(), $column);
            return $values ? max($values) : null;
        }

        public function insert($row)
        {
            $table = &Capsule::$tables[$this->name];
            foreach ($table['columns'] as $column => $kind) {
                if ($kind !== 'increments' && !array_key_exists($column, $row)) {
                    throw new \RuntimeException("$this->name.$column has no default");
                }
            }
            if (array_diff_key($row, $table['columns'])) {
                throw new \RuntimeException("unknown column in $this->name");
            }
            if (in_array('increments', $table['columns'], true)) {
                $row['id'] = $table['next']++;
            }
            $table['rows'][] = $row;
            Capsule::save();
            return true;
        }

        public function update($row)
        {
            $count = 0;
            foreach (Capsule::$tables[$this->name]['rows'] as &$each) {
                if ($this->fits($each)) {
                    $each = array_merge($each, $row);
                    $count++;
                }
            }
            unset($each);
            Capsule::save();
            return $count;
        }

        public function delete()
        {
            $rows = Capsule::$tables[$this->name]['rows'];
            $kept = array_values(array_filter($rows, function ($row) { return !$this->fits($row); }));
            Capsule::$tables[$this->name]['rows'] = $kept;
            Capsule::save();
            return count($rows) - count($kept);
        }

        private function found()
        {
            $rows = array_values(array_filter(Capsule::$tables[$this->name]['rows'], [$this, 'fits']));
            if ($this->order !== null) {
                usort($rows, function ($a, $b) { return $a[$this->order] <=> $b[$this->order]; });
                $rows = $this->descending ? array_reverse($rows) : $rows;
            }
            return $this->limit === null ? $rows : array_slice($rows, 0, $this->limit);
        }

        private function fits($row)
        {
            foreach ($this->wheres as list($column, $operator, $value)) {
                if ($operator === 'like') {  // %text% only
                    $fits = strpos((string) $row[$column], trim($value, '%')) !== false;
                } else {
                    $order = $row[$column] <=> $value;
                    $fits = ['=' => $order === 0, '<' => $order < 0, '>' => $order > 0, '<=' => $order <= 0,
                        '<>' => $order !== 0][$operator];
                }
                if (!$fits) {
                    return false;
                }
            }
            return true;
        }
    }
}

namespace {
    use WHMCS\Database\Capsule;

    error_reporting(E_ALL);
    set_error_handler(function ($number, $message, $file, $line) {
        if (!(error_reporting() & $number)) {
            return false;  // silenced with @
        }
        throw new ErrorException($message, 0, $number, $file, $line);
    });
    define('WHMCS', true);
    $hooks = [];

    function add_hook($name, $priority, $function)
    {
        global $hooks;
        $hooks[$name][] = $function;
    }

    function logActivity($message) { echo $message, "\n"; }

    Capsule::open($argv[1]);
    require $argv[2];
    foreach (json_decode(file_get_contents('php://stdin'), true) as $act) {
        if (isset($act['insert'])) {
            if (!Capsule::schema()->hasTable($act['insert'])) {
                Capsule::schema()->create($act['insert'], function ($table) use ($act) {
                    foreach ($act['row'] as $column => $value) {
                        $table->text($column);
                    }
                });
            }
            Capsule::table($act['insert'])->insert($act['row']);
        } elseif (isset($act['change'])) {
            Capsule::table($act['change'])->update($act['row']);
        } elseif (isset($act['fill'])) {
            foreach ($act['rows'] as $row) {
                Capsule::$tables[$act['fill']]['rows'][] = $row;
            }
            Capsule::save();
        } elseif (isset($act['drop'])) {
            unset(Capsule::$tables[$act['drop']]);
            Capsule::save();
        } elseif (!isset($hooks[$act['hook']])) {
            throw new RuntimeException('nobody listens to ' . $act['hook']);
        } else {
            foreach ($hooks[$act['hook']] as $function) {
                $function($act['vars']);
            }
        }
    }
}

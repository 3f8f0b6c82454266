#!/usr/bin/env node
// Installs the Salesforce side of the order portal into an org, sets it up, tests the connection, and says what is missing.
// Needs the Salesforce CLI (`sf`), signed in to the org, and nothing else. Can be run again at any time.
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const PROJECT = dirname(dirname(fileURLToPath(import.meta.url)));
const { sourceApiVersion: API } = JSON.parse(readFileSync(join(PROJECT, 'sfdx-project.json'), 'utf8'));
const TESTS = ['OrderProvisioningServiceTest', 'OrderProvisioningJobTest', 'OrderProvisioningRequestTest'];
const USAGE = `Usage: node bin/install.mjs --target-org ALIAS --portal https://portal.example.com [options]

  --target-org ALIAS          the org, as \`sf org login web --alias ALIAS\` named it
  --portal URL                the portal's PORTAL_BASE_URL, with its path prefix if it has one
  --secret-file FILE          file with the portal's SF_WEBHOOK_SECRET; "-" reads standard input
  --operator USERNAME         may provision orders (can be given several times)
  --integration-user USERNAME the API user the portal signs in as
  --view-all                  lets the API user see all accounts and orders, where they are private
  --sign-in-apex              signs in Apex instead of letting Salesforce sign (see docs/salesforce-setup.md first)
  --sample-data               puts an order to try it on into the org (scratch orgs and sandboxes)
  --check                     deploys and changes nothing: only says what is missing
`;

const { values: options } = parseArgs({
    options: {
        'target-org': { type: 'string' },
        portal: { type: 'string' },
        'secret-file': { type: 'string' },
        operator: { type: 'string', multiple: true, default: [] },
        'integration-user': { type: 'string' },
        'view-all': { type: 'boolean', default: false },
        'sign-in-apex': { type: 'boolean', default: false },
        'sample-data': { type: 'boolean', default: false },
        check: { type: 'boolean', default: false },
        help: { type: 'boolean', default: false }
    }
});

const missing = [];

function say(good, text) {
    console.log(`${good ? '✓' : '✗'} ${text}`);
}

function lacks(what, cure) {
    say(false, what);
    missing.push(cure);
}

class SfError extends Error {}

/** Runs `sf`; `input` goes to its standard input, so that no secret is ever an argument. Answers what it printed. */
function run(args, { input, environment } = {}) {
    const done = spawnSync('sf', [...args, '--target-org', options['target-org']], {
        cwd: PROJECT,
        input: input ?? '',
        encoding: 'utf8',
        env: { ...process.env, ...environment },
        maxBuffer: 1 << 28,
        shell: process.platform === 'win32'
    });
    if (done.error?.code === 'ENOENT') {
        throw new SfError('the Salesforce CLI (sf) is not installed: npm install --global @salesforce/cli');
    }
    return done;
}

/** Runs `sf … --json` and answers its result. */
function sf(args, settings) {
    const done = run([...args, '--json'], settings);
    let answer;
    try {
        answer = JSON.parse(done.stdout);
    } catch {
        throw new SfError(`sf ${args.slice(0, 3).join(' ')}: ${(done.stderr || done.stdout).trim().slice(0, 500)}`);
    }
    if (done.status !== 0 || answer.status > 0) {
        throw new SfError(answer.message ?? `sf ${args.slice(0, 3).join(' ')} failed`, { cause: answer });
    }
    return answer.result;
}

const query = (soql) => sf(['data', 'query', '--query', soql]).records;
const quoted = (text) => `'${text.replace(/[\\']/g, '\\$&')}'`;

/** A REST call with a body that may hold the secret. Answers whether it went well, and what was said if not. */
function rest(method, path, body) {
    const done = run(['api', 'request', 'rest', `/services/data/v${API}/${path}`, '--method', method, '--body', '-'], {
        input: JSON.stringify(body)
    });
    return { good: done.status === 0, said: `${done.stdout}${done.stderr}`.trim() };
}

// --- the steps --------------------------------------------------------------------------------------------------

function checkOrg() {
    const org = sf(['org', 'display']);
    say(true, `signed in to ${org.instanceUrl ?? options['target-org']} as ${org.username}`);
    if (org.apiVersion && Number(org.apiVersion) < Number(API)) {
        throw new SfError(`the org has API ${org.apiVersion}; this package needs ${API} (Summer '26)`);
    }
    return org;
}

function describeOrder() {
    try {
        return sf(['sobject', 'describe', '--sobject', 'Order']);
    } catch (error) {
        throw new SfError(`orders can't be read: Setup > Order Settings > Enable Orders. (${error.message})`);
    }
}

function deploy(folder, tests) {
    const level = tests.length
        ? ['--test-level', 'RunSpecifiedTests', ...tests.flatMap((test) => ['--tests', test])]
        : [];
    try {
        sf(['project', 'deploy', 'start', '--source-dir', folder, '--wait', '60', ...level], {
            environment: { PORTAL_BASE_URL: options.portal.replace(/\/+$/, '') }
        });
    } catch (error) {
        const details = error.cause?.result?.details ?? {};
        const failures = [...(details.componentFailures ?? []), ...(details.runTestResult?.failures ?? [])];
        failures.forEach((each) => console.log(`    ${each.fullName ?? each.name}: ${each.problem ?? each.message}`));
        const legacy = failures.some((each) => /Portal_BFF|Portal_Webhook/.test(each.fullName ?? ''));
        const hint = legacy ? ' Named credentials of the guide in the way? See FROM-THE-GUIDE.md.' : '';
        throw new SfError(`${folder} was not deployed: ${error.message}${hint}`);
    }
    say(true, `deployed ${folder}`);
}

function secretOf(file) {
    const secret = readFileSync(file === '-' ? 0 : file, 'utf8').replace(/\r?\n$/, '');
    if (Buffer.byteLength(secret) < 32) {
        throw new SfError('the secret is shorter than 32 bytes: openssl rand -hex 32 makes one');
    }
    return secret;
}

function storeSecret(secret, orgId) {
    if (options['sign-in-apex']) {
        const rows = query(`SELECT Id FROM Portal_Secret__c WHERE SetupOwnerId = ${quoted(orgId)}`);
        const path = rows.length ? `sobjects/Portal_Secret__c/${rows[0].Id}` : 'sobjects/Portal_Secret__c';
        const owner = rows.length ? {} : { SetupOwnerId: orgId };
        report(
            rest(rows.length ? 'PATCH' : 'POST', path, { ...owner, Webhook_Secret__c: secret }),
            'the custom setting'
        );
        return;
    }
    const credential = {
        externalCredential: 'Portal_Webhook',
        principalName: 'Portal',
        principalType: 'NamedPrincipal',
        authenticationProtocol: 'Custom',
        credentials: { HmacSecret: { value: secret, encrypted: true } }
    };
    const created = rest('POST', 'named-credentials/credential', credential);
    report(created.good ? created : rest('PUT', 'named-credentials/credential', credential), 'the external credential');
}

function report({ good, said }, where) {
    if (good) {
        say(true, `stored the secret in ${where}`);
    } else {
        const cure =
            where === 'the custom setting'
                ? 'Setup > Custom Settings > Portal Secret > Manage > New: type the secret.'
                : 'Setup > Named Credentials > External Credentials > Portal Webhook > principal Portal > Edit: ' +
                  'add the parameter HmacSecret with the secret as its value.';
        lacks(`the secret could not be stored in ${where}: ${said.slice(0, 300)}`, cure);
    }
}

function assign(username, sets) {
    const holder = `Assignee.Username = ${quoted(username)}`;
    const held = new Set(
        query(`SELECT PermissionSet.Name FROM PermissionSetAssignment WHERE ${holder}`).map(
            (row) => row.PermissionSet.Name
        )
    );
    for (const name of sets.filter((each) => !held.has(each))) {
        if (options.check) {
            lacks(`${username} lacks the permission set ${name}`, `Assign ${name} to ${username}.`);
            continue;
        }
        try {
            sf(['org', 'assign', 'permset', '--name', name, '--on-behalf-of', username]);
            say(true, `assigned ${name} to ${username}`);
        } catch (error) {
            lacks(`${name} could not be assigned to ${username}: ${error.message}`, `Assign ${name} to ${username}.`);
        }
    }
}

/** Which standard fields take field-level security differs by edition and settings, so it is asked, not shipped. */
function grantStandardFields() {
    const set = query("SELECT Id FROM PermissionSet WHERE Name = 'Portal_Integration'")[0];
    if (!set) {
        lacks('the permission set Portal_Integration is not there', 'Deploy force-app (run this without --check).');
        return;
    }
    const granted = new Set(
        query(`SELECT Field FROM FieldPermissions WHERE ParentId = ${quoted(set.Id)} AND PermissionsRead = true`).map(
            (row) => row.Field
        )
    );
    const wanted = JSON.parse(readFileSync(join(PROJECT, 'data', 'portal-fields.json'), 'utf8'));
    const byObject = Map.groupBy
        ? Map.groupBy(Object.entries(wanted), ([name]) => name.split('.')[0])
        : groupBy(Object.entries(wanted), ([name]) => name.split('.')[0]);
    for (const [object, fields] of byObject) {
        const described = new Map(
            sf(['sobject', 'describe', '--sobject', object]).fields.map((each) => [each.name, each])
        );
        for (const [name, access] of fields) {
            const field = described.get(name.split('.')[1]);
            if (!field) {
                lacks(`there is no field ${name}, or you may not see it`, `Field ${name}: deployed? Visible to you?`);
            } else if (field.permissionable && !granted.has(name) && !granted.has(compound(object, field))) {
                grant(set.Id, object, name, access);
            }
        }
    }
    say(true, 'looked at every field the portal uses');
}

const compound = (object, field) => `${object}.${field.compoundFieldName}`;

function groupBy(entries, keyOf) {
    const groups = new Map();
    entries.forEach((each) => groups.set(keyOf(each), [...(groups.get(keyOf(each)) ?? []), each]));
    return groups;
}

function grant(parent, object, name, access) {
    if (options.check) {
        lacks(
            `the integration user has no field-level security for ${name}`,
            `Give Portal_Integration ${access} on ${name}.`
        );
        return;
    }
    const values = `ParentId=${parent} SobjectType=${object} Field=${name} PermissionsRead=true PermissionsEdit=${access === 'edit'}`;
    try {
        sf(['data', 'create', 'record', '--sobject', 'FieldPermissions', '--values', values]);
        say(true, `gave Portal_Integration ${access} on ${name}`);
    } catch (error) {
        lacks(`${name}: ${error.message}`, `Give Portal_Integration ${access} on ${name}.`);
    }
}

function checkStatuses(order) {
    const statuses = order.fields.find((field) => field.name === 'Status').picklistValues.map((each) => each.value);
    if (!statuses.includes('Pending Review')) {
        lacks(
            'Order.Status has no value "Pending Review"',
            'Setup > Object Manager > Order > Fields > Status > New: "Pending Review" in the category Draft, in every record type.'
        );
    } else {
        say(true, 'Order.Status has "Pending Review"');
    }
}

function checkIntegrationUser(username) {
    const user = query(`SELECT IsActive, Profile.Name FROM User WHERE Username = ${quoted(username)}`)[0];
    if (!user?.IsActive) {
        lacks(
            `there is no active user ${username}`,
            `Create the API user ${username} (licence Salesforce Integration).`
        );
        return false;
    }
    return true;
}

function testConnection() {
    const done = run(['apex', 'run', '--file', 'scripts/apex/check-connection.apex', '--json']);
    let logs = done.stdout;
    try {
        const { result, data, message } = JSON.parse(done.stdout);
        logs = (result ?? data)?.logs ?? message ?? done.stdout;
    } catch {
        // whatever it printed instead
    }
    const told = /PORTAL_CONNECTION (OK[^\n|]*|[A-Z_0-9]+: [^\n]*)/.exec(logs)?.[1];
    if (told?.startsWith('OK')) {
        say(true, `the portal answers: ${told}`);
    } else {
        lacks(
            `the connection test failed: ${told ?? logs.trim().slice(0, 400)}`,
            'Connection: docs/salesforce-setup.md has a table of what each answer means.'
        );
    }
}

const BY_HAND = [
    'Setup > Object Manager > Order > Page Layouts: add the action "Provision in WHMCS" under Mobile & Lightning Actions.',
    'Setup > Object Manager > Order > List View Button Layout: add the button "Provision in WHMCS".',
    'Order record page > Edit Page: place the component "Provisioning Status".',
    "External Client App for the portal's sign-in: docs/salesforce-setup.md, step 6."
];

function main() {
    if (options.help || !options['target-org'] || (!options.portal && !options.check)) {
        console.log(USAGE);
        return options.help ? 0 : 2;
    }
    if (options.portal && !/^https:\/\/[^\s?#]+$/.test(options.portal)) {
        throw new SfError('--portal must be an https address without query');
    }
    const org = checkOrg();
    describeOrder();
    const secret = options['secret-file'] && !options.check ? secretOf(options['secret-file']) : undefined;
    if (!options.check) {
        deploy('force-app', TESTS);
        if (options['sign-in-apex']) {
            deploy('signing-apex', []);
        }
        if (secret) {
            storeSecret(secret, org.id);
        }
    }
    checkStatuses(describeOrder());
    new Set([org.username, ...options.operator]).forEach((name) => assign(name, ['Portal_Operator', 'Portal_Callout']));
    grantStandardFields();
    if (options['integration-user'] && checkIntegrationUser(options['integration-user'])) {
        assign(options['integration-user'], [
            'Portal_Integration',
            ...(options['view-all'] ? ['Portal_Integration_View_All'] : [])
        ]);
    } else if (!options['integration-user']) {
        missing.push('The API user: run this again with --integration-user USERNAME.');
    }
    testConnection();
    if (options['sample-data'] && !options.check) {
        sf(['apex', 'run', '--file', 'scripts/apex/sample-data.apex']);
        say(true, 'there is an order to try it on (account "Order portal sample")');
    }
    console.log('\nBy hand, once (what is on your pages is yours):');
    BY_HAND.forEach((each) => console.log(`- ${each}`));
    if (missing.length) {
        console.log('\nMissing:');
        missing.forEach((each) => console.log(`- ${each}`));
        return 1;
    }
    console.log('\nNothing is missing.');
    return 0;
}

try {
    process.exitCode = main();
} catch (error) {
    if (!(error instanceof SfError) && error.code !== 'ENOENT') {
        throw error;
    }
    console.error(`✗ ${error.message}`);
    process.exitCode = 1;
}

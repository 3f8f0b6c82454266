// What bin/install.mjs does with an org in this or that state; the org is checks/stand-in-sf.mjs.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';

const CHECKS = dirname(fileURLToPath(import.meta.url));
const PROJECT = dirname(CHECKS);
const SECRET = 'only-for-this-test-0123456789abcdef0123456789';
const folder = mkdtempSync(join(tmpdir(), 'install-'));
after(() => rmSync(folder, { recursive: true }));

const sf = join(folder, 'sf');
copyFileSync(join(CHECKS, 'stand-in-sf.mjs'), `${sf}.mjs`);
writeFileSync(sf, `#!/bin/sh\nexec "${process.execPath}" "${sf}.mjs" "$@"\n`);
chmodSync(sf, 0o755);
writeFileSync(join(folder, 'secret'), `${SECRET}\n`);

const listed = JSON.parse(readFileSync(join(PROJECT, 'data', 'portal-fields.json'), 'utf8'));
const PERMISSIONS = ['Portal_Operator', 'Portal_Callout', 'Portal_Integration'];

/** An org in which everything is right, but for what a test changes. */
function org(changes = {}) {
    return {
        api: '68.0',
        ordersEnabled: true,
        fields: Object.fromEntries(Object.keys(listed).map((name) => [name, {}])),
        statuses: [{ value: 'Draft' }, { value: 'Pending Review' }, { value: 'Activated' }],
        rows: {
            PermissionSet: [{ Id: '0PS000000000001' }],
            PermissionSetAssignment: PERMISSIONS.map((Name) => ({ PermissionSet: { Name } })),
            FieldPermissions: [],
            User: [{ IsActive: true, Profile: { Name: 'Minimum Access' } }]
        },
        connection: 'OK: the portal knows our signature.',
        calls: [],
        ...changes
    };
}

function install(state, ...more) {
    const file = join(folder, 'org.json');
    writeFileSync(file, JSON.stringify(state));
    const done = spawnSync(
        process.execPath,
        [join(PROJECT, 'bin', 'install.mjs'), '--target-org', 'prod', '--integration-user', 'api@example.com', ...more],
        {
            encoding: 'utf8',
            env: { ...process.env, PATH: `${folder}${delimiter}${process.env.PATH}`, STAND_IN_ORG: file },
            timeout: 60000
        }
    );
    return { ...done, told: done.stdout + done.stderr, calls: JSON.parse(readFileSync(file, 'utf8')).calls };
}

const all = ['--portal', 'https://portal.example.com/shop/', '--secret-file', join(folder, 'secret')];
const called = (done, ...words) => done.calls.filter(({ args }) => words.every((word) => args.includes(word)));

test('an org in which nothing is missing', () => {
    const done = install(org(), ...all);
    assert.equal(done.status, 0, done.told);
    assert.match(done.told, /Nothing is missing/);
    const [deployment] = called(done, 'deploy');
    assert.equal(deployment.portal, 'https://portal.example.com/shop', 'the address goes into the named credential');
    assert.ok(deployment.args.includes('RunSpecifiedTests') && deployment.args.includes('force-app'));
});

test('the secret is never an argument, and never printed', () => {
    for (const more of [[], ['--sign-in-apex']]) {
        const done = install(org(), ...all, ...more);
        assert.equal(done.status, 0, done.told);
        assert.ok(!JSON.stringify(done.calls.map(({ args }) => args)).includes(SECRET));
        assert.ok(!done.told.includes(SECRET));
        const [stored] = called(done, 'rest');
        assert.ok(stored.stdin.includes(SECRET) && !stored.stdin.includes('\\n'), 'it goes through standard input');
    }
});

test('a secret that is there already is replaced', () => {
    const done = install(org({ credentialRefused: 'exists' }), ...all);
    assert.deepEqual(
        called(done, 'rest').map(({ args }) => args[args.indexOf('--method') + 1]),
        ['POST', 'PUT']
    );
    assert.equal(done.status, 0, done.told);
});

test('a secret that cannot be stored is a step by hand', () => {
    const done = install(org({ credentialRefused: 'NOT_FOUND' }), ...all);
    assert.equal(done.status, 1);
    assert.match(done.told, /add the parameter HmacSecret/);
});

test('a short secret is refused before anything is changed', () => {
    writeFileSync(join(folder, 'short'), 'short');
    const done = install(org(), '--portal', 'https://portal.example.com', '--secret-file', join(folder, 'short'));
    assert.equal(done.status, 1);
    assert.match(done.told, /shorter than 32 bytes/);
    assert.equal(called(done, 'deploy').length, 0);
});

test('orders that are switched off', () => {
    const done = install(org({ ordersEnabled: false }), ...all);
    assert.equal(done.status, 1);
    assert.match(done.told, /Order Settings > Enable Orders/);
    assert.equal(called(done, 'deploy').length, 0);
});

test('an org of an older release', () => {
    const done = install(org({ api: '66.0' }), ...all);
    assert.equal(done.status, 1);
    assert.match(done.told, /needs 67.0/);
});

test("the guide's named credential in the way", () => {
    const done = install(org({ deployFails: 'Cannot change type of named credential' }), ...all);
    assert.equal(done.status, 1);
    assert.match(done.told, /Portal_BFF: Cannot change type/);
    assert.match(done.told, /FROM-THE-GUIDE/);
});

test('a status that the portal needs', () => {
    const done = install(org({ statuses: [{ value: 'Draft' }] }), ...all);
    assert.equal(done.status, 1);
    assert.match(done.told, /Missing:\n- .*"Pending Review" in the category Draft/);
});

test('permission sets are assigned where they are lacking', () => {
    const state = org();
    state.rows.PermissionSetAssignment = [];
    const done = install(state, ...all, '--operator', 'ada@example.com', '--view-all');
    const assigned = called(done, 'permset').map(({ args }) => [
        args[args.indexOf('--on-behalf-of') + 1],
        args[args.indexOf('--name') + 1]
    ]);
    assert.deepEqual(assigned, [
        ['admin@example.com', 'Portal_Operator'],
        ['admin@example.com', 'Portal_Callout'],
        ['ada@example.com', 'Portal_Operator'],
        ['ada@example.com', 'Portal_Callout'],
        ['api@example.com', 'Portal_Integration'],
        ['api@example.com', 'Portal_Integration_View_All']
    ]);
});

test('field-level security is given for what takes it, once, and not twice for addresses', () => {
    const state = org();
    state.fields['Order.TotalAmount'] = { permissionable: true };
    state.fields['Account.BillingCity'] = { permissionable: true, compoundFieldName: 'BillingAddress' };
    state.fields['Order.WHMCS_Order_ID__c'] = { permissionable: true };
    state.rows.FieldPermissions = [{ Field: 'Account.BillingAddress' }, { Field: 'Order.WHMCS_Order_ID__c' }];
    const done = install(state, ...all);
    const created = called(done, 'create').map(({ args }) => args[args.indexOf('--values') + 1]);
    assert.equal(created.length, 1);
    assert.match(created[0], /Field=Order.TotalAmount PermissionsRead=true PermissionsEdit=false/);
});

test('a field that is not there', () => {
    const state = org();
    delete state.fields['Product2.WH_Product_ID__c'];
    const done = install(state, ...all);
    assert.equal(done.status, 1);
    assert.match(done.told, /no field Product2.WH_Product_ID__c/);
});

test('an API user that is not there', () => {
    const state = org();
    state.rows.User = [];
    const done = install(state, ...all);
    assert.equal(done.status, 1);
    assert.match(done.told, /Create the API user api@example.com/);
});

test('a connection that fails says how', () => {
    const done = install(org({ connection: 'INVALID_SIGNATURE: HTTP 401 Invalid signature' }), ...all);
    assert.equal(done.status, 1);
    assert.match(done.told, /connection test failed: INVALID_SIGNATURE: HTTP 401/);
});

test('--check changes nothing', () => {
    const state = org();
    state.rows.PermissionSetAssignment = [];
    state.fields['Order.TotalAmount'] = { permissionable: true };
    const done = install(state, '--check', '--sample-data');
    assert.equal(done.status, 1);
    const changing = done.calls.filter(({ args }) => /deploy|assign|create|request/.test(args.join(' ')));
    assert.deepEqual(changing, []);
    assert.match(done.told, /Assign Portal_Operator to admin@example.com/);
    assert.match(done.told, /Give Portal_Integration read on Order.TotalAmount/);
});

test('an address that is none', () => {
    const done = install(org(), '--portal', 'http://portal.example.com');
    assert.equal(done.status, 1);
    assert.match(done.told, /https/);
});

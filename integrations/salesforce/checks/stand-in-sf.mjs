#!/usr/bin/env node
// Stands where the Salesforce CLI is while bin/install.mjs is tested: no org can be reached from there. It writes down how it
// was called and answers as an org in a given state would. STAND_IN_ORG names a JSON file with that state and the calls.
import { readFileSync, writeFileSync } from 'node:fs';

const file = process.env.STAND_IN_ORG;
const org = JSON.parse(readFileSync(file, 'utf8'));
const args = process.argv.slice(2);
const command = args.filter((each) => !each.startsWith('-')).join(' ');
const value = (flag) => args[args.indexOf(flag) + 1];
const stdin = args.includes('--body') ? readFileSync(0, 'utf8') : '';
org.calls.push({ args, stdin, portal: process.env.PORTAL_BASE_URL });
writeFileSync(file, JSON.stringify(org));

function answer(result) {
    console.log(JSON.stringify({ status: 0, result }));
}

function refuse(message, result) {
    console.log(JSON.stringify({ status: 1, message, result }));
    process.exit(1);
}

const field = (name, more = {}) => ({ name, permissionable: false, compoundFieldName: null, ...more });

if (command.startsWith('org display')) {
    answer({
        id: '00D000000000001EAA',
        username: 'admin@example.com',
        instanceUrl: 'https://x.my',
        apiVersion: org.api
    });
} else if (command.startsWith('sobject describe')) {
    const object = value('--sobject');
    if (object === 'Order' && !org.ordersEnabled) {
        refuse('The requested resource does not exist');
    }
    const fields = Object.keys(org.fields)
        .filter((name) => name.startsWith(`${object}.`))
        .map((name) =>
            field(name.split('.')[1], name === 'Order.Status' ? { picklistValues: org.statuses } : org.fields[name])
        );
    answer({ fields });
} else if (command.startsWith('project deploy start')) {
    if (org.deployFails) {
        refuse('Deploy failed', {
            details: { componentFailures: [{ fullName: 'Portal_BFF', problem: org.deployFails }] }
        });
    }
    answer({ success: true });
} else if (command.startsWith('data query')) {
    const soql = value('--query');
    const object = / FROM (\w+)/.exec(soql)[1];
    answer({ records: org.rows[object] ?? [] });
} else if (command.startsWith('data create record') || command.startsWith('org assign permset')) {
    answer({});
} else if (command.startsWith('apex run')) {
    const told = value('--file').includes('connection') ? org.connection : 'PORTAL_SAMPLE';
    answer({
        success: true,
        logs: `Execute Anonymous: 'PORTAL_CONNECTION ' + x;\n|USER_DEBUG|[2]|ERROR|PORTAL_CONNECTION ${told}\n`
    });
} else if (command.startsWith('api request rest')) {
    console.log(org.credentialRefused ?? '');
    process.exit(org.credentialRefused && (org.credentialRefused !== 'exists' || value('--method') === 'POST') ? 1 : 0);
} else {
    refuse(`no such command here: ${command}`);
}

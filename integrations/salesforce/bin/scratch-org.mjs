#!/usr/bin/env node
// Makes a scratch org with everything in it, sample order included, and opens it: for whoever works on this package.
import { spawnSync } from 'node:child_process';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const PROJECT = dirname(dirname(fileURLToPath(import.meta.url)));
const [portal, secretFile, alias = 'order-portal'] = process.argv.slice(2);

function step(command, ...args) {
    console.log(`$ ${[command, ...args].join(' ')}`);
    const done = spawnSync(command, args, { cwd: PROJECT, stdio: 'inherit', shell: process.platform === 'win32' });
    if (done.status !== 0) {
        process.exit(done.status ?? 1);
    }
}

if (!portal || !secretFile) {
    console.log('Usage: node bin/scratch-org.mjs https://portal.example.com SECRET_FILE [ALIAS]');
    process.exit(2);
}
step(
    'sf',
    'org',
    'create',
    'scratch',
    '--definition-file',
    'config/project-scratch-def.json',
    '--alias',
    alias,
    '--duration-days',
    '7'
);
// A scratch org is nobody's: here the list of order statuses may be replaced.
step('sf', 'project', 'deploy', 'start', '--source-dir', 'scratch', '--target-org', alias);
step(
    process.execPath,
    join('bin', 'install.mjs'),
    ...['--target-org', alias, '--portal', portal, '--secret-file', secretFile, '--sample-data']
);
step('sf', 'org', 'open', '--target-org', alias, '--path', 'lightning/o/Order/list');

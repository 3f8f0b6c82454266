// How the Lightning web components are linted: Salesforce's own recommended rules.
import { createRequire } from 'node:module';

const require = createRequire(import.meta.url);
const lwc = require('@salesforce/eslint-config-lwc/recommended');
const jest = require('eslint-plugin-jest');

export default [
    { ignores: ['node_modules/**'] },
    ...(Array.isArray(lwc) ? lwc : [lwc]).map((each) => ({ ...each, files: each.files ?? ['**/lwc/**/*.js'] })),
    {
        files: ['**/__tests__/**/*.js'],
        ...jest.configs['flat/recommended'],
        rules: { ...jest.configs['flat/recommended'].rules, '@lwc/lwc/no-unexpected-wire-adapter-usages': 'off' },
        languageOptions: {
            globals: {
                jest: 'readonly',
                describe: 'readonly',
                it: 'readonly',
                expect: 'readonly',
                beforeEach: 'readonly',
                afterEach: 'readonly'
            }
        }
    }
];

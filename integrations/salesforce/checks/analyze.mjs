// Runs Salesforce Code Analyzer as a library over a project: `node analyze.mjs PROJECT RULE_SELECTOR…`.
// Prints one line per violation, "file:line rule: message", and ends with status 1 when there was any.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join, relative, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';

const [project, ...selectors] = process.argv.slice(2);
const root = resolve(project);
// The packages are those of the project that is checked; a copy of it has a link to them.
const require = createRequire(pathToFileURL(join(root, 'package.json')));
const load = (name) => import(pathToFileURL(require.resolve(name)));

const { CodeAnalyzer, CodeAnalyzerConfig } = await load('@salesforce/code-analyzer-core');
const config = CodeAnalyzerConfig.fromYamlString(readFileSync(join(root, 'code-analyzer.yml'), 'utf8'), root);
const analyzer = new CodeAnalyzer(config);
for (const engine of ['pmd', 'regex']) {
    const plugin = await load(`@salesforce/code-analyzer-${engine}-engine`);
    await analyzer.addEnginePlugin(plugin.createEnginePlugin());
}

const rules = await analyzer.selectRules(selectors);
if (rules.getCount() === 0) {
    throw new Error(`no rule is selected by ${selectors.join(' ')}`);
}
const folders = ['force-app', 'signing-apex', 'scratch', 'optional', 'external-client-app', 'scripts'];
const workspace = await analyzer.createWorkspace(folders.map((folder) => join(root, folder)));
const results = await analyzer.run(rules, { workspace });
const found = results.getViolations().map((violation) => {
    const place = violation.getPrimaryLocation();
    const file = relative(root, place.getFile() ?? root);
    return `${file}:${place.getStartLine()} ${violation.getRule().getName()}: ${violation.getMessage()}`;
});
found.sort().forEach((line) => console.log(line));
console.log(`${rules.getCount()} rules, ${found.length} violations`);
process.exitCode = found.length ? 1 : 0;

// Assembles the npm package and the static site from the compiled modules:
//   node wasm/build.mjs MODULES OUTPUT
// MODULES holds maeum.wasm and maeum-relaxed.wasm; OUTPUT/package and OUTPUT/site are replaced.

import { createHash } from 'node:crypto';
import { cpSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';

const [modules, output] = process.argv.slice(2);
if (!output) throw new Error('usage: node wasm/build.mjs MODULES OUTPUT');
const root = new URL('..', import.meta.url).pathname;
const MODULES = ['maeum.wasm', 'maeum-relaxed.wasm'];
const MODEL = join(root, 'models/default/maeum.safetensors');
const version = readFileSync(join(root, 'ffi/Cargo.toml'), 'utf8').match(/^version = "(.*)"$/m)[1];

/** Replaces text that must be there once. */
function replace(text, from, to) {
  if (text.split(from).length !== 2) throw new Error(`${JSON.stringify(from)} is not exactly once in its file; adapt wasm/build.mjs`);
  return text.replace(from, () => to);
}

// The npm package.
const pack = join(output, 'package');
rmSync(pack, { recursive: true, force: true });
mkdirSync(pack, { recursive: true });
for (const name of ['engine.js', 'index.js', 'index.d.ts', 'README.md']) cpSync(join(root, 'wasm/package', name), join(pack, name));
const description = JSON.parse(readFileSync(join(root, 'wasm/package/package.json'), 'utf8'));
writeFileSync(join(pack, 'package.json'), `${JSON.stringify({ ...description, version }, null, 2)}\n`);
for (const name of MODULES) cpSync(join(modules, name), join(pack, name));
cpSync(MODEL, join(pack, 'model.safetensors'));
for (const name of ['LICENSE-MIT', 'LICENSE-APACHE', 'NOTICE']) cpSync(join(root, name), join(pack, name));
for (const name of ['MODEL_CARD.md', 'LICENSE-CC-BY-4.0.txt', 'LICENSE-CC-BY-NC-SA-4.0.txt']) {
  cpSync(join(root, 'models/default', name), join(pack, 'model', name));
}

// The site: the server's page with another transport.
const POLICY = [
  "default-src 'none'", "connect-src 'none'", "script-src 'self' 'wasm-unsafe-eval'", "worker-src 'self' blob:",
  "style-src 'self'", "img-src 'self'", "base-uri 'none'", "form-action 'none'",
].join('; ');
const site = join(output, 'site');
const ui = join(site, 'ui');
rmSync(site, { recursive: true, force: true });
mkdirSync(ui, { recursive: true });
const page = join(root, 'src/server/page');
for (const name of readdirSync(page)) {
  if (name !== 'index.html' && name !== 'api.js') cpSync(join(page, name), join(ui, name));
}
for (const name of ['api.js', 'worker.js']) cpSync(join(root, 'wasm/site', name), join(ui, name));
for (const name of ['engine.js', 'index.js']) cpSync(join(root, 'wasm/package', name), join(ui, name));
for (const [name, path] of [...MODULES.map(name => [name, join(modules, name)]), ['model.safetensors', MODEL]]) {
  const packed = gzipSync(readFileSync(path), { level: 9 }).toString('base64');
  writeFileSync(join(ui, `${name}.js`), `export default '${packed}';\n`);
}
let html = readFileSync(join(page, 'index.html'), 'utf8');
html = replace(html, '<meta charset="utf-8">', `<meta charset="utf-8">\n<meta http-equiv="Content-Security-Policy" content="${POLICY}">\n<meta name="referrer" content="no-referrer">`);
html = replace(html, '    <a href="docs" data-text="docs">API</a>\n', '');
html = replace(html, 'This page needs JavaScript. The server can also be used from programs: see <a href="docs">the API</a>.', 'This page needs JavaScript.');
writeFileSync(join(site, 'index.html'), html);

const files = ['./', ...readdirSync(ui).map(name => `ui/${name}`)].sort();
const hash = createHash('sha256');
for (const name of files) hash.update(name).update(readFileSync(join(site, name === './' ? 'index.html' : name)));
let offline = readFileSync(join(root, 'wasm/site/offline.js'), 'utf8');
offline = replace(offline, '@VERSION@', hash.digest('hex').slice(0, 16));
offline = replace(offline, '@FILES@', files.join(' '));
writeFileSync(join(site, 'offline.js'), offline);

// A browser takes one of the modules. The largest part is the model, which others than this build decide about.
const LARGEST = 1.7e6;
const gzipped = names => names.reduce((sum, name) => sum + gzipSync(readFileSync(join(site, name))).length, 0);
const common = files.map(name => (name === './' ? 'index.html' : name)).filter(name => !/\.(wasm|safetensors)\.js$/.test(name));
const model = gzipped(['ui/model.safetensors.js']);
const megabytes = bytes => `${(bytes / 1e6).toFixed(2)} MB`;
for (const name of MODULES) {
  const code = gzipped([...common, `ui/${name}.js`]);
  console.log(`site with ${name}: ${megabytes(code + model)} gzipped, of which the model ${megabytes(model)}`);
  if (code > LARGEST) throw new Error(`the site without the model is larger than ${megabytes(LARGEST)}`);
}

#!/usr/bin/env bash
# Installs the packed npm package into an empty project and uses it there, from JavaScript and TypeScript:
#   wasm/tests/npm.sh PACKAGE.tgz INFER
set -euo pipefail
package=$(realpath "$1")
infer=$(realpath "$2")
voice=$(realpath "$(dirname "$0")/../../tests/data/voice.wav")
project=$(mktemp -d)
trap 'rm -rf "$project"' EXIT
cd "$project"
cp "$voice" voice.wav
npm init --yes >/dev/null
npm install --silent --no-audit --no-fund --offline "$package"
cat >use.mjs <<'END'
import { readFile } from 'node:fs/promises';
import { Recognizer } from 'maeum';

const r = await Recognizer.load();
const bytes = await readFile('voice.wav');
if (r.recognize(bytes).strongest !== JSON.parse(r.format(bytes, 'jsonl')).strongest) throw new Error('two answers');
process.stdout.write(r.format(bytes, 'json', { name: 'voice.wav' }));
END
node use.mjs >ours.json
"$infer" --format json voice.wav >native.json
cmp ours.json native.json
echo "ok the_installed_package_answers_as_the_program"
if npm install --silent --no-audit --no-fund --no-save typescript@5 @types/node@20 2>/dev/null; then
    cat >use.mts <<'END'
import { readFile } from 'node:fs/promises';
import { Recognizer, RecognitionError, type Answer, type Profile } from 'maeum';

const r: Recognizer = await Recognizer.load();
const bytes = await readFile('voice.wav');
const profile: Profile = r.profile([bytes]);
const answer: Answer = r.recognize(bytes, { name: 'voice.wav', dropout: 'off', seed: 1n, profile });
const word: string = answer.strongest;
const years: number = answer.age.years;
try {
  r.format(bytes, 'csv', { maxSeconds: 1 });
} catch (error) {
  if (error instanceof RecognitionError) console.log(word, years, error.code, r.model.formats[0]);
}
// @ts-expect-error there is no such format
r.format(bytes, 'xml');
END
    npx tsc --noEmit --strict --module nodenext --moduleResolution nodenext --target es2022 --lib es2022,dom use.mts
    echo "ok the_types_fit_their_use"
else
    printf '\n!!! TYPES NOT TESTED: the package typescript cannot be installed\n\n'
fi

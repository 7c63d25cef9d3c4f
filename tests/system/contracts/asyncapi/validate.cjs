// Reads an AsyncAPI document with AsyncAPI's own parser, and prints as JSON what that says of it.
const fs = require("fs");
const { createRequire } = require("module");

const [, , file, modules] = process.argv;
const { Parser } = createRequire(modules)("@asyncapi/parser");

async function main() {
  const { document, diagnostics } = await new Parser().parse(fs.readFileSync(file, "utf8"), { source: file });
  const said = diagnostics.map(({ severity, code, path, message }) => ({ severity, code, path: path.join("."), message }));
  const channels = document ? document.channels().all().map((one) => one.address()) : null;
  const messages = document ? document.allMessages().all().map((one) => one.name()) : null;
  console.log(JSON.stringify({ valid: document !== undefined, channels, messages, diagnostics: said }));
}

main();

// Writes types over those that `supabase gen types` has made, and comments above them; prints the
// result as TypeScript formats it, and which columns may be null.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const ts = createRequire(import.meta.url)(process.argv[2]);
const { source, types, comments, header, footer } = JSON.parse(readFileSync(0, "utf8"));
const file = ts.createSourceFile("database.ts", source, ts.ScriptTarget.Latest, true);
const edits = [];
const nulls = [];
const known = new Set();

function look(node, path) {
  if (ts.isPropertySignature(node)) {
    path = [...path, node.name.text];
    const name = path.join(".");
    const before = node.type.getText();
    const { type = before, isNull = "as before" } = types[name] ?? {};
    const mayBeNull = isNull === "as before" ? before.endsWith("| null") : isNull;
    known.add(name);
    if (path.at(-2) === "Row" && mayBeNull) nulls.push(`${path.at(-3)}.${path.at(-1)}`);
    if (comments[name]) edits.push([node.getStart(), node.getStart(), `\n/** ${comments[name]} */\n`]);
    // what can't be written stays so
    if (types[name] && before !== "never") {
      const now = type ?? before;
      return edits.push([node.type.getStart(), node.type.end, mayBeNull && !now.endsWith("| null") ? `${now} | null` : now]);
    }
  }
  ts.forEachChild(node, (child) => void look(child, path));
}

for (const statement of file.statements) {
  if (ts.isTypeAliasDeclaration(statement) && statement.name.text === "Database") look(statement, []);
}
// not every view can be written
const unknown = [...Object.keys(types), ...Object.keys(comments)].filter((name) => !known.has(name) && !/\.(Insert|Update)\./.test(name));
if (unknown.length) throw new Error(`There is no ${unknown.join(", ")}.`);

let text = source;
for (const [start, end, added] of edits.sort((a, b) => b[0] - a[0] || b[1] - a[1])) {
  text = text.slice(0, start) + added + text.slice(end);
}
// there are no enums to list
text = text.slice(0, text.indexOf("export const Constants"));
const made = ts.createSourceFile("database.ts", text + footer, ts.ScriptTarget.Latest, true);
const printed = ts
  .createPrinter({ newLine: ts.NewLineKind.LineFeed })
  .printFile(made)
  .replace(/^( +)/gm, (spaces) => spaces.slice(spaces.length / 2))
  .replace(/^( *)"(\w+)"(\??:)/gm, "$1$2$3")
  .replace(/\((\w+)\)\[\]/g, "$1[]");
process.stdout.write(JSON.stringify({ text: `${header}\n${printed}`, nulls }));

// Reads Bicep files into JSON: node read.mjs FILE... Run where tree-sitter-bicep is installed.
// An expression is {kind, line, text} and, by kind: object {props: [{name, line, value}]}, array and call
// {items} (call: name too), if {test, items: [then, else]}, for {items: [body]}; all else is text.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const modules = join(process.cwd(), 'node_modules');
const { Parser, Language } = await import(pathToFileURL(join(modules, 'web-tree-sitter', 'tree-sitter.js')));
await Parser.init();
const parser = new Parser();
parser.setLanguage(await Language.load(join(modules, 'tree-sitter-bicep', 'tree-sitter-bicep.wasm')));

const lineOf = n => n.startPosition.row + 1;
const bare = n => n.type === 'string' ? n.text.slice(1, -1) : n.text;
const named = n => n.namedChildren.filter(c => c.type !== 'comment' && c.type !== 'diagnostic_comment');

function expression(n) {
  const e = { kind: n.type, line: lineOf(n), text: n.text };
  const children = named(n);
  switch (n.type) {
    case 'object':
      e.props = children.filter(c => c.type === 'object_property')
        .map(c => ({ name: bare(c.child(0)), line: lineOf(c), value: expression(named(c).at(-1)) }));
      break;
    case 'array':
      e.items = children.map(expression);
      break;
    case 'string':
      e.text = bare(n);
      if (n.text.includes('${')) e.kind = 'template';
      break;
    case 'parenthesized_expression':
      return expression(children[0]);
    case 'ternary_expression':
      return { ...e, kind: 'if', test: children[0].text, items: children.slice(1).map(expression) };
    case 'if_statement':
      return { ...e, kind: 'if', test: children[0].text.replace(/^\(|\)$/g, ''), items: children.slice(1).map(expression) };
    case 'for_statement':
      return { ...e, kind: 'for', items: [expression(children.at(-1))] };
    case 'lambda_expression':
      return { ...e, kind: 'lambda', items: [expression(children.at(-1))] };
    case 'call_expression':
      return { ...e, kind: 'call', name: children[0].text, items: named(children.at(-1)).map(expression) };
  }
  return e;
}

function value(n) {
  const c = named(n).at(-1);
  return expression(c);
}

function declaration(n, decorators) {
  const [first, second] = named(n);
  const d = { kind: n.type.replace('_declaration', ''), name: first.text, line: lineOf(n), decorators };
  switch (n.type) {
    case 'parameter_declaration':
      d.type = second.text;
      d.required = named(n).length === 2;
      if (!d.required) d.value = value(n);
      return d;
    case 'variable_declaration':
    case 'output_declaration':
      return { ...d, value: value(n) };
    case 'resource_declaration':
    case 'module_declaration':
      return { ...d, target: bare(second), existing: /^[^{[]*\sexisting\s*=/.test(n.text), value: value(n) };
  }
}

const out = {};
for (const file of process.argv.slice(2)) {
  const root = parser.parse(readFileSync(file, 'utf8')).rootNode;
  const read = out[file] = { declarations: [], broken: [] };
  (function visit(n) {
    if (n.isError || n.isMissing) read.broken.push({ line: lineOf(n), text: n.text.slice(0, 40) });
    n.children.forEach(visit);
  })(root);
  let decorators = [];
  for (const n of named(root)) {
    if (n.type === 'decorators') { decorators = named(n).map(d => d.text.slice(1)); continue; }
    const d = n.type.endsWith('_declaration') ? declaration(n, decorators) : undefined;
    if (d) read.declarations.push(d);
    decorators = [];
  }
}
process.stdout.write(JSON.stringify(out));

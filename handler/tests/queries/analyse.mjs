// Analyses KQL as Azure's own editors do. Standard input: {"columns": [{"name", "type"}],
// "functions": [{"name", "text"}], "queries": [{"name", "text"}]}; functions may use those
// before them. Output: {name: {"problems": ["KS142 at 12: …"], "columns": {name: type}}}.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { runInThisContext } from "node:vm";

const home = join(process.argv[2], "node_modules", "@kusto", "language-service-next");
for (const file of ["bridge.min.js", "Kusto.Language.Bridge.min.js"]) {
  runInThisContext(readFileSync(join(home, file), "utf8"), { filename: file });
}
const { Kusto, Bridge } = globalThis;
const L = Kusto.Language, S = L.Symbols;

function* each(list) {
  for (const e = Bridge.getEnumerator(list); e.moveNext(); ) yield e.Current;
}

function analyse(text, globals) {
  const code = L.KustoCode.ParseAndAnalyze(text, globals);
  const problems = [...each(code.GetDiagnostics())].map((d) => `${d.Code} at ${d.Start}: ${d.Message}`);
  const columns = {};
  if (code.ResultType?.Columns) for (const c of each(code.ResultType.Columns)) columns[c.Name] = c.Type.Name;
  return { problems, columns };
}

const input = JSON.parse(readFileSync(0, "utf8"));
const types = { boolean: "bool" };
const schema = "(" + input.columns.map((c) => `['${c.name}']: ${types[c.type] ?? c.type}`).join(", ") + ")";
const appRequests = "(TimeGenerated: datetime, OperationName: string)"; // the columns that the queries use
const operations = "(TimeGenerated: datetime, Category: string, Operation: string, Detail: string, Level: string)";
const symbols = [[input.table, schema], ["AppRequests", appRequests], ["_LogOperation", operations]]
  .map(([name, columns]) => new S.TableSymbol.$ctor7(name, columns, null));
const globals = () => L.GlobalState.Default.WithDatabase(new S.DatabaseSymbol.ctor("LogAnalytics", symbols));
const answer = {};
for (const f of input.functions) {
  answer[f.name] = analyse(f.text, globals());
  symbols.push(new S.FunctionSymbol.$ctor16(f.name, "()", "{" + f.text + "\n}", null));
}
for (const q of input.queries) answer[q.name] = analyse(q.text, globals());
console.log(JSON.stringify(answer));

/** How `weft validate` and `weft analyze` show what they found. */
import type { Finding } from '@weft/config';
import { type OutputOption, print, printJson } from './common.ts';
import { formatProblem } from './mesh.ts';

/** Prints all of them, as a list with `json`; the exit code becomes 1 where one is an error. */
export function printFindings(findings: readonly Finding[], output: OutputOption['output']): void {
  if (output === 'json') printJson(findings);
  else {
    for (const f of findings) {
      const of = f.resource ? ` ${f.resource}${f.namespace ? ` in ${f.namespace}` : ''}:` : '';
      print(
        `${formatProblem({ ...f, severity: `${f.severity} [${f.code}]`, message: `${of.trim()} ${f.message}`.trim() })}`,
      );
    }
  }
  const errors = findings.filter((f) => f.severity === 'error').length;
  if (errors > 0) {
    if (output !== 'json') print(`${errors} error${errors > 1 ? 's' : ''}`);
    process.exitCode = 1;
  }
}

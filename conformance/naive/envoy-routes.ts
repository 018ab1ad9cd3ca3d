/** HTTP routes of a VirtualService as a route table of Envoy: which of them matches is told by a direct response. */

// biome-ignore lint/suspicious/noExplicitAny: documents as they were written.
type Any = any;

const text = (m: Any): Any =>
  m.regex !== undefined
    ? { safe_regex: { regex: m.regex } }
    : m.prefix !== undefined
      ? { prefix: m.prefix }
      : { exact: m.exact };
const header = (name: string, m: Any): Any => ({ name, string_match: text(m) });

function envoyMatch(m: Any, id: string): Any {
  const headers: Any[] = [{ name: 'x-case', string_match: { exact: id } }];
  if (m.method) headers.push(header(':method', m.method));
  if (m.authority) headers.push(header(':authority', m.authority));
  if (m.scheme) headers.push(header(':scheme', m.scheme));
  for (const [name, sm] of Object.entries(m.headers ?? {})) headers.push(header(name, sm));
  // As Istio writes it: a field that is absent is none of that value.
  for (const [name, sm] of Object.entries(m.withoutHeaders ?? {}))
    headers.push({ ...header(name, sm), invert_match: true, treat_missing_header_as_empty: true });
  const path: Any = !m.uri
    ? { prefix: '/' }
    : m.uri.exact !== undefined
      ? { path: m.uri.exact }
      : m.uri.prefix !== undefined
        ? { prefix: m.uri.prefix }
        : { safe_regex: { regex: m.uri.regex } };
  return {
    ...path,
    // What Istio does too: a regular expression keeps its case.
    ...(m.ignoreUriCase && m.uri?.regex === undefined && { case_sensitive: false }),
    headers,
    query_parameters: Object.entries(m.queryParams ?? {}).map(([name, sm]) => ({ name, string_match: text(sm) })),
  };
}

/** Whether a match is for the caller at all, which Istio decides before Envoy sees it. */
function forCaller(m: Any): boolean {
  const own: Record<string, string> = { app: 'cart', version: 'v1' };
  return (
    (!m.sourceNamespace || m.sourceNamespace === 'shop') &&
    Object.entries(m.sourceLabels ?? {}).every(([k, v]) => own[k] === v)
  );
}

/** Routes for requests with `x-case: <id>`; the answer's body is the index of the route, or `none`. */
export function envoyRoutes(vs: Any, id: string): Any[] {
  const routes: Any[] = [];
  for (const [i, route] of vs.http.entries()) {
    const matches: Any[] = route.match ?? [{}];
    for (const m of matches.filter(forCaller))
      routes.push({ match: envoyMatch(m, id), direct_response: { status: 200, body: { inline_string: String(i) } } });
  }
  const none = { match: envoyMatch({}, id), direct_response: { status: 200, body: { inline_string: 'none' } } };
  return [...routes, none];
}

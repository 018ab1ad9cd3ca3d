/** x-forwarded-client-cert of a visitor: what the gateway says of the certificate that it judged, in Envoy's form. */
import { hash, X509Certificate } from 'node:crypto';
import { altNames } from '../net/alt-names.ts';

/** `Hash=…;Subject="CN=…";URI=…;DNS=…` of a certificate in DER; '' where it cannot be read. Once per connection. */
export function certificateElement(raw: Buffer): string {
  try {
    const certificate = new X509Certificate(raw);
    const uris = altNames(certificate, 'URI');
    const fields = [`Hash=${hash('sha256', raw, 'hex')}`, `Subject="${subjectOf(certificate)}"`];
    // The key is there also where there is no such name.
    for (const uri of uris.length > 0 ? uris : ['']) fields.push(`URI=${quoted(uri)}`);
    for (const name of altNames(certificate, 'DNS')) fields.push(`DNS=${quoted(name)}`);
    return fields.join(';');
  } catch {
    return '';
  }
}

/**
 * RFC 2253, as OpenSSL prints it: last name first. The runtime prints a line each, first name first, with quotes and control characters escaped
 * by that RFC; bytes beyond ASCII are escaped here, since fields of HTTP may not hold them.
 */
function subjectOf({ subject }: X509Certificate): string {
  const names = (subject ?? '').split('\n').reverse();
  return escaped(names.map((line) => line.split(' + ').reverse().join('+')).join(), '\\');
}

/** A name that could be taken for several fields stands in quotes. */
function quoted(name: string): string {
  const text = escaped(name, '%');
  return /[,;="\\\s]/.test(text) ? `"${text.replace(/["\\]/g, '\\$&')}"` : text;
}

/** With bytes beyond printable ASCII as two hexadecimal digits behind `mark`. */
function escaped(text: string, mark: string): string {
  const hex = (byte: number): string => `${mark}${byte.toString(16).toUpperCase().padStart(2, '0')}`;
  return text.replace(/[^\x20-\x7e]+/g, (part) => Array.from(Buffer.from(part), hex).join(''));
}

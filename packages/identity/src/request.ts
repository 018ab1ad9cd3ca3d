/** Making a certificate request: what every proxy does, so without the library that judges and signs them (12 MB). */
import { generateKeyPair, sign } from 'node:crypto';
import { promisify } from 'node:util';

export interface KeyAndCsr {
  /** PKCS #8. It never leaves the process that made it. */
  keyPem: string;
  csrPem: string;
}

const newKeyPair = promisify(generateKeyPair);

/** DER (X.690): tags, and object identifiers as they are encoded. */
const INTEGER = 0x02;
const BIT_STRING = 0x03;
const OCTET_STRING = 0x04;
const SEQUENCE = 0x30;
const SET = 0x31;
const ATTRIBUTES = 0xa0;
const URI = 0x86;
const TRUE = Buffer.from('0101ff', 'hex');
const EXTENSION_REQUEST = Buffer.from('06092a864886f70d01090e', 'hex');
const SUBJECT_ALTERNATIVE_NAME = Buffer.from('0603551d11', 'hex');
const ECDSA_WITH_SHA256 = Buffer.from('06082a8648ce3d040302', 'hex');

/**
 * A new P-256 key and a request for it (RFC 2986). The mesh's own CA reads no name in it: who asks is known from how it is
 * asked. Other CAs want the id there.
 */
export async function createKeyAndCsr(spiffeId?: string): Promise<KeyAndCsr> {
  const { publicKey, privateKey } = await newKeyPair('ec', { namedCurve: 'P-256' });
  const version = der(INTEGER, Buffer.of(0));
  const noSubject = der(SEQUENCE);
  const key = publicKey.export({ type: 'spki', format: 'der' });
  const attributes = spiffeId === undefined ? der(ATTRIBUTES) : der(ATTRIBUTES, nameAttribute(spiffeId));
  const info = der(SEQUENCE, version, noSubject, key, attributes);
  const signature = der(BIT_STRING, Buffer.of(0), sign('sha256', info, privateKey));
  const request = der(SEQUENCE, info, der(SEQUENCE, ECDSA_WITH_SHA256), signature);
  return { keyPem: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(), csrPem: pem(request) };
}

/** The wish for one name, which is critical since there is no subject (RFC 5280 4.2.1.6). */
function nameAttribute(spiffeId: string): Buffer {
  const names = der(SEQUENCE, der(URI, Buffer.from(spiffeId, 'latin1')));
  const extension = der(SEQUENCE, SUBJECT_ALTERNATIVE_NAME, TRUE, der(OCTET_STRING, names));
  return der(SEQUENCE, EXTENSION_REQUEST, der(SET, der(SEQUENCE, extension)));
}

function der(tag: number, ...parts: readonly Uint8Array[]): Buffer {
  const content = Buffer.concat(parts);
  const { length } = content;
  if (length < 0x80) return Buffer.concat([Buffer.of(tag, length), content]);
  const bytes = length < 0x100 ? [length] : [length >>> 8, length & 0xff]; // Names are short: 64 KB are not reached.
  return Buffer.concat([Buffer.of(tag, 0x80 | bytes.length, ...bytes), content]);
}

function pem(request: Buffer): string {
  const lines = request.toString('base64').match(/.{1,64}/g)!;
  return `-----BEGIN CERTIFICATE REQUEST-----\n${lines.join('\n')}\n-----END CERTIFICATE REQUEST-----\n`;
}

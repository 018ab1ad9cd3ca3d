/** The certificate library, with what it needs loaded first. Everything here imports it from this file. */
import './reflect.ts';
import { webcrypto } from 'node:crypto';

export type CryptoKey = webcrypto.CryptoKey;
export type CryptoKeyPair = webcrypto.CryptoKeyPair;

type X509 = typeof import('@peculiar/x509');

// A static import would be hoisted above the line that prepares `Reflect` for it.
export const x509: X509 = await import('@peculiar/x509');

export const EC_P256 = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;

export const crypto = webcrypto;
x509.cryptoProvider.set(crypto as never);

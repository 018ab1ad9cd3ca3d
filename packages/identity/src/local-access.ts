/** Who may use a local API: who holds the token that was made when the mesh's folder was. */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { existsSync, linkSync, readFileSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { refuseIfShared, writeFileAtomic } from './files.ts';

/** Beside the API's socket, for its owner alone. */
const pathOf = (socket: string): string => join(dirname(socket), 'api-token');

/** The token of the API at this socket; made at the first call, by whoever comes first. Throws `identity/exposed-secret`. */
export function localToken(socket: string): string {
  const path = pathOf(socket);
  if (!existsSync(path)) {
    const mine = `${path}.${process.pid}`;
    writeFileAtomic(mine, randomBytes(32).toString('base64url'), 0o600);
    try {
      linkSync(mine, path); // Fails where another process was first: its token counts.
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    } finally {
      rmSync(mine, { force: true });
    }
  }
  refuseIfShared(path, 'API token', '0600');
  return readFileSync(path, 'utf8').trim();
}

/** What a client of the API at this socket sends as `authorization`; empty where it may not read the token. */
export function localAuthorization(socket: string): string {
  try {
    return `Bearer ${readFileSync(pathOf(socket), 'utf8').trim()}`;
  } catch {
    return '';
  }
}

export interface LocalHeaders {
  readonly host?: string | undefined;
  readonly origin?: string | undefined;
  readonly authorization?: string | undefined;
}

/**
 * Why a request is refused before anything of it is read: by its status and what to say; undefined where it may pass. A
 * page in a browser has an origin, or came by a name that was bound anew to this machine.
 */
export function refuseLocal(headers: LocalHeaders, token: string): { status: number; message: string } | undefined {
  if (headers.origin !== undefined) return { status: 403, message: 'pages of other origins are not answered' };
  if (!isLocalName(headers.host)) return { status: 403, message: 'the Host header must be localhost' };
  const digest = (text: string): Buffer => createHash('sha256').update(text).digest();
  if (timingSafeEqual(digest(headers.authorization ?? ''), digest(`Bearer ${token}`))) return undefined;
  return {
    status: 401,
    message: 'the token of the file api-token beside the socket is needed (authorization: Bearer …)',
  };
}

function isLocalName(host: string | undefined): boolean {
  return host !== undefined && /^(localhost|127\.0\.0\.1|\[::1\])(:\d{1,5})?$/i.test(host);
}

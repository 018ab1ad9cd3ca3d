/** What is read of a connection before anything is known of it: protocol, ClientHello, PROXY header; and DNS. */
import { createHash } from 'node:crypto';
import {
  DnsTcpFramer,
  detectProtocol,
  encodeResponse,
  parseClientHello,
  parseQuery,
  readProxyHeader,
} from '@weft/wire';
import { growing, type Target } from '../target.ts';

const detection = growing('detect', (bytes) => {
  const kind = detectProtocol(bytes);
  return kind === 'more' ? undefined : kind;
});

// Bytes behind a complete hello are another record's: with them the whole may be no hello any more. It is asked and must not throw.
const clientHello: Target = {
  name: 'client-hello',
  start() {
    let bytes = Buffer.alloc(0);
    let done = false;
    return {
      push(piece) {
        if (done) return;
        bytes = Buffer.concat([bytes, piece]);
        const hello = parseClientHello(bytes);
        if (typeof hello === 'object' && hello.sni !== undefined && !/^[\x21-\x7e]*$/.test(hello.sni))
          throw new Error('a server name with bytes that no name has');
        done = hello !== 'more';
      },
      end: () => '',
    };
  },
};

const proxyHeader = growing('proxy-header', (bytes) => {
  const header = readProxyHeader(bytes);
  return header === 'more' ? undefined : JSON.stringify(header);
});

const dns: Target = {
  name: 'dns',
  start() {
    const framer = new DnsTcpFramer();
    // Not the text, which would hold more memory than the parser.
    const seen = createHash('sha1');
    return {
      push(piece) {
        for (const message of framer.push(piece)) {
          const query = parseQuery(message);
          seen.update(`${JSON.stringify(query)}\n`);
          if (query === 'invalid') continue;
          encodeResponse(query, { rcode: 0, answers: [{ name: query.name, type: 1, ttl: 1, data: '10.0.0.1' }] });
        }
      },
      end: () => seen.digest('hex'),
    };
  },
};

export const firstBytesTargets: readonly Target[] = [detection, clientHello, proxyHeader, dns];

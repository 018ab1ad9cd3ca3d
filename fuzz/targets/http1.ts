/** HTTP/1.1: heads, chunks, trailers, tunnels, either side. */
import { Http1Client, Http1Server } from '@weft/wire';
import { listener, Sink, type Target } from '../target.ts';

const server: Target = {
  name: 'http1-server',
  start() {
    const sink = new Sink(true);
    let seen = '';
    const connection = new Http1Server({
      output: sink,
      scheme: 'http',
      onStream(stream, head, end) {
        seen += `\n${JSON.stringify(head)} `;
        const answer = () => stream.sendHead([':status', '204'], true);
        if (head[1] === 'CONNECT') stream.sendHead([':status', '200'], false);
        else if (end) answer();
        return listener(
          (text) => {
            seen += text;
          },
          () => {
            if (head[1] !== 'CONNECT') answer();
          },
        );
      },
    });
    return {
      push(piece) {
        connection.receive(piece);
        sink.turn();
      },
      end() {
        connection.receiveEnd();
        sink.turn();
        connection.closed('end of the input');
        if (connection.open !== 0) throw new Error('an exchange is left after the connection');
        // Of several faults the one seen first depends on the pieces; that the input is refused, and where, does not.
        return seen + sink.text.replace(/HTTP\/1\.1 [45]\d\d [\s\S]*$/, '<refused>');
      },
    };
  },
};

const client: Target = {
  name: 'http1-client',
  start() {
    const sink = new Sink(true);
    let seen = '';
    const connection = new Http1Client({ output: sink });
    const handler = listener(
      (text) => {
        seen += text;
      },
      () => {
        seen += '<over>';
      },
    );
    connection.request([':method', 'GET', ':scheme', 'http', ':authority', 'a', ':path', '/'], true, handler);
    return {
      push(piece) {
        connection.receive(piece);
        sink.turn();
      },
      end() {
        connection.receiveEnd();
        sink.turn();
        connection.closed('end of the input');
        if (connection.open !== 0 || connection.reusable) throw new Error('the client outlives its connection');
        return seen;
      },
    };
  },
};

export const http1Targets: readonly Target[] = [server, client];

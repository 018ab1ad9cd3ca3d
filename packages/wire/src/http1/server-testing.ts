/** A server without a socket, for tests: what it made of given bytes, and what it wrote. */
import type { Head, Stream, WireLimits } from '../stream.ts';
import { Http1Server } from './server.ts';
import { Recorder, RecordingOutput } from './testing.ts';

interface Seen {
  head: Head;
  recorder: Recorder;
  stream: Stream;
}

/** A server that answers every complete request with 200 and its path, fed `bytes` in pieces of `step`. */
export function serve(bytes: string, step: number, limits?: Partial<WireLimits>) {
  const output = new RecordingOutput();
  const seen: Seen[] = [];
  const answer = (stream: Stream) => {
    stream.sendHead([':status', '200', 'content-length', '2'], false);
    stream.sendData(Buffer.from('ok'), true);
  };
  const server = new Http1Server({
    output,
    scheme: 'http',
    limits,
    onStream(stream, head, end) {
      const recorder = new Recorder();
      seen.push({ head, recorder, stream });
      if (end) answer(stream);
      else {
        const onData = recorder.onData.bind(recorder);
        recorder.onData = (s, chunk, last) => {
          onData(s, chunk, last);
          if (last) answer(s);
        };
        recorder.onTrailers = (s, fields) => {
          recorder.trailers = fields;
          answer(s);
        };
      }
      return recorder;
    },
  });
  const buffer = Buffer.from(bytes, 'latin1');
  for (let at = 0; at < buffer.length; at += step) server.receive(buffer.subarray(at, at + step));
  const statuses = [...output.text.matchAll(/HTTP\/1\.1 (\d{3})/g)].map((m) => Number(m[1]));
  return { output, seen, server, statuses };
}

export const H = 'Host: a\r\n';
export const CH = `POST / HTTP/1.1\r\n${H}Transfer-Encoding: chunked\r\n\r\n`;

export function manual(limits?: Partial<WireLimits>) {
  const output = new RecordingOutput();
  const seen: Seen[] = [];
  const names: string[] = [];
  const server = new Http1Server({
    output,
    scheme: 'https',
    limits,
    counters: { count: (name) => names.push(name) },
    onStream(stream, head) {
      const recorder = new Recorder();
      seen.push({ head, recorder, stream });
      return recorder;
    },
  });
  return { output, seen, server, names, feed: (text: string) => server.receive(Buffer.from(text, 'latin1')) };
}

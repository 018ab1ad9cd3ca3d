/** Delta ADS over gRPC, the server's side: one DeltaSession for each stream. */
import type { IncomingHttpHeaders, ServerHttp2Stream } from 'node:http2';
import { fromBinary } from '@bufbuild/protobuf';
import { Code, ConnectError } from '@connectrpc/connect';
import { type Logger, silentLogger, WeftError } from '@weft/base';
import { encodeResponse } from './encode.ts';
import type { Node } from './gen/envoy/config/core/v3/base_pb.js';
import { DeltaDiscoveryRequestSchema } from './gen/envoy/service/discovery/v3/discovery_pb.js';
import { GrpcStream } from './grpc-stream.ts';
import { DELTA_PATH } from './paths.ts';
import { DeltaSession, type Layers, type TypeStatus } from './session.ts';

export interface AdsSubscriber {
  /**
   * The stream's state changed: a request, an ACK or a NACK arrived. `named`: it asks for something by name. What the
   * subscriber updates now goes out in the answer.
   */
  onChange?(named: boolean): void;
  onClose?(): void;
}

/** `Peer`: what the transport knows of who calls. */
export interface AdsServerOptions<Peer> {
  /** Resource types in sending order. */
  types: readonly string[];
  /**
   * Judges who asks, on the first request of a stream; throws a ConnectError to refuse. What it returns hears of the
   * stream from then on.
   */
  accept(stream: AdsStream, node: Node, peer: Peer): AdsSubscriber;
  /** Of one request; default 8 MiB. */
  maxRequestBytes?: number;
  logger?: Logger;
}

/** A call of the service on a stream of an HTTP/2 server. */
export type AdsHandler<Peer> = (stream: ServerHttp2Stream, headers: IncomingHttpHeaders, peer: Peer) => void;

const DEFAULT_MAX_REQUEST_BYTES = 8 * 1024 * 1024;

/** One client's stream. */
export class AdsStream {
  readonly #session: DeltaSession;
  readonly #call: GrpcStream;

  constructor(session: DeltaSession, call: GrpcStream) {
    this.#session = session;
    this.#call = call;
  }

  /** Sets the wanted state of several types and sends what changed, as one change each. */
  update(states: Iterable<{ type: string; layers: Layers; label: string }>): void {
    for (const { type, layers, label } of states) this.#session.set(type, layers, label);
    this.flush();
  }

  flush(): void {
    const due = this.#session.pull();
    if (due.length > 0) this.#call.send(due.flatMap(encodeResponse));
  }

  status(type: string): TypeStatus {
    return this.#session.status(type);
  }

  /** What the client asked for by name, beside everything or instead of it. */
  names(type: string): ReadonlySet<string> {
    return this.#session.names(type);
  }

  /** Ends the stream; the client reconnects unless told to be refused. */
  close(reason: string, code: Code = Code.Unavailable): void {
    this.#call.end(new ConnectError(reason, code));
  }
}

export function createAdsHandler<Peer>(options: AdsServerOptions<Peer>): AdsHandler<Peer> {
  const { types, accept, logger = silentLogger } = options;
  const maxBytes = options.maxRequestBytes ?? DEFAULT_MAX_REQUEST_BYTES;
  return (http2, headers, peer) => {
    const session = new DeltaSession(types);
    let subscriber: AdsSubscriber | undefined;
    const call = new GrpcStream(http2, headers, maxBytes, {
      onMessage(bytes) {
        try {
          const request = fromBinary(DeltaDiscoveryRequestSchema, bytes);
          if (!subscriber) {
            if (!request.node)
              throw new ConnectError('the first request of a stream must carry a node', Code.InvalidArgument);
            subscriber = accept(stream, request.node, peer);
          }
          const named = session.receive(request);
          subscriber.onChange?.(named);
          stream.flush();
        } catch (error) {
          throw asConnectError(error);
        }
      },
      onEnd: () => call.end(),
      onClose() {
        try {
          subscriber?.onClose?.();
        } catch (error) {
          logger.error({ error: String(error) }, 'closing an xDS stream failed');
        }
      },
    });
    const stream = new AdsStream(session, call);
    if (headers[':path'] !== DELTA_PATH) {
      call.end(new ConnectError('only delta xDS is served: ask by DeltaAggregatedResources', Code.Unimplemented));
    }
  };
}

function asConnectError(error: unknown): ConnectError {
  if (error instanceof ConnectError) return error;
  if (error instanceof WeftError) return new ConnectError(error.message, Code.InvalidArgument);
  return new ConnectError('the stream failed', Code.Internal, undefined, undefined, error);
}

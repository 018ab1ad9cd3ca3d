/** Delta ADS over gRPC, the server's side: one DeltaSession for each stream. */
import { Code, ConnectError, type ConnectRouter, type HandlerContext } from '@connectrpc/connect';
import { type Logger, silentLogger, WeftError } from '@weft/base';
import type { Node } from './gen/envoy/config/core/v3/base_pb.js';
import { AggregatedDiscoveryService } from './gen/envoy/service/discovery/v3/ads_pb.js';
import type { DeltaDiscoveryRequest, DeltaDiscoveryResponse } from './gen/envoy/service/discovery/v3/discovery_pb.js';
import { AsyncQueue } from './queue.ts';
import { DeltaSession, type Layers, type TypeStatus } from './session.ts';

export interface AdsSubscriber {
  /** The stream's state changed: a request, an ACK or a NACK arrived. */
  onChange?(): void;
  onClose?(): void;
}

export interface AdsServerOptions {
  /** Resource types in sending order. */
  types: readonly string[];
  /**
   * Judges who asks, on the first request of a stream (`context` gives what the transport knows of the peer); throws
   * a ConnectError to refuse. What it returns hears of the stream from then on.
   */
  accept(stream: AdsStream, node: Node, context: HandlerContext): AdsSubscriber;
  logger?: Logger;
}

/** One client's stream. */
export class AdsStream {
  readonly #session: DeltaSession;
  readonly #out: AsyncQueue<DeltaDiscoveryResponse>;

  constructor(session: DeltaSession, out: AsyncQueue<DeltaDiscoveryResponse>) {
    this.#session = session;
    this.#out = out;
  }

  /** Sets the wanted state of several types and sends what changed, as one change each. */
  update(states: Iterable<{ type: string; layers: Layers; label: string }>): void {
    for (const { type, layers, label } of states) this.#session.set(type, layers, label);
    this.flush();
  }

  flush(): void {
    for (const response of this.#session.pull()) this.#out.push(response);
  }

  status(type: string): TypeStatus {
    return this.#session.status(type);
  }

  /** Ends the stream; the client reconnects unless told to be refused. */
  close(reason: string, code: Code = Code.Unavailable): void {
    this.#out.end(new ConnectError(reason, code));
  }
}

/** Routes for a connect router (`connectNodeAdapter`). */
export function createAdsRoutes(options: AdsServerOptions): (router: ConnectRouter) => void {
  const logger = options.logger ?? silentLogger;
  return (router) => {
    router.service(AggregatedDiscoveryService, {
      deltaAggregatedResources: (requests, context) => serve(requests, context, options, logger),
    });
  };
}

async function* serve(
  requests: AsyncIterable<DeltaDiscoveryRequest>,
  context: HandlerContext,
  options: AdsServerOptions,
  logger: Logger,
): AsyncGenerator<DeltaDiscoveryResponse> {
  const out = new AsyncQueue<DeltaDiscoveryResponse>();
  const session = new DeltaSession(options.types);
  const stream = new AdsStream(session, out);
  let subscriber: AdsSubscriber | undefined;
  const read = async () => {
    try {
      for await (const request of requests) {
        if (!subscriber) {
          if (!request.node)
            throw new ConnectError('the first request of a stream must carry a node', Code.InvalidArgument);
          subscriber = options.accept(stream, request.node, context);
        }
        session.receive(request);
        stream.flush();
        subscriber.onChange?.();
      }
      out.end();
    } catch (error) {
      out.end(asConnectError(error));
    }
  };
  const onAbort = () => out.end();
  context.signal.addEventListener('abort', onAbort, { once: true });
  void read();
  try {
    yield* out;
  } finally {
    context.signal.removeEventListener('abort', onAbort);
    out.end();
    try {
      subscriber?.onClose?.();
    } catch (error) {
      logger.error({ error: String(error) }, 'closing an xDS stream failed');
    }
  }
}

function asConnectError(error: unknown): ConnectError {
  if (error instanceof ConnectError) return error;
  if (error instanceof WeftError) return new ConnectError(error.message, Code.InvalidArgument);
  return new ConnectError('the stream failed', Code.Internal, undefined, undefined, error);
}

/**
 * Which gRPC library carries xDS: one bidirectional stream, the client asks, the server answers with 100 resources of 1 KB.
 * Prints exchanges a second and CPU per exchange of both (client and server in this process). `node bench/grpc-library.ts`.
 */
import http2 from 'node:http2';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { createClient } from '@connectrpc/connect';
import { connectNodeAdapter, createGrpcTransport } from '@connectrpc/connect-node';
import grpc from '@grpc/grpc-js';
import {
  AggregatedDiscoveryService,
  type DeltaDiscoveryRequest,
  DeltaDiscoveryRequestSchema,
  DeltaDiscoveryResponseSchema,
} from '@weft/xds';

const ROUNDS = 1500;
const answer = create(DeltaDiscoveryResponseSchema, {
  resources: Array.from({ length: 100 }, (_, i) => ({
    name: `cluster/${i}`,
    version: '1',
    resource: { typeUrl: 'type.weft.dev/x', value: new Uint8Array(1024).fill(i) },
  })),
});

async function measure(name: string, exchange: (rounds: number) => Promise<void>): Promise<void> {
  await exchange(200);
  const cpu = process.cpuUsage();
  const started = performance.now();
  await exchange(ROUNDS);
  const used = process.cpuUsage(cpu);
  const seconds = (performance.now() - started) / 1000;
  const cpuUs = Math.round((used.user + used.system) / ROUNDS);
  console.log(`${name.padEnd(14)} ${Math.round(ROUNDS / seconds)} exchanges/s, ${cpuUs} µs CPU each`);
}

async function connect(): Promise<() => void> {
  const server = http2.createServer(
    connectNodeAdapter({
      routes: (router) =>
        router.service(AggregatedDiscoveryService, {
          async *deltaAggregatedResources(requests) {
            for await (const _ of requests) yield answer;
          },
        }),
    }),
  );
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const port = (server.address() as { port: number }).port;
  const transport = createGrpcTransport({ baseUrl: `http://127.0.0.1:${port}` });
  const client = createClient(AggregatedDiscoveryService, transport);
  await measure('connect-node', async (rounds) => {
    let next: () => void = () => {};
    let left = rounds;
    async function* ask(): AsyncGenerator<DeltaDiscoveryRequest> {
      while (left > 0) {
        const wait = new Promise<void>((resolve) => {
          next = resolve;
        });
        yield create(DeltaDiscoveryRequestSchema, { typeUrl: 'x' });
        await wait;
      }
    }
    for await (const response of client.deltaAggregatedResources(ask())) {
      if (response.resources.length !== 100) throw new Error('lost resources');
      left -= 1;
      next();
      if (left === 0) break;
    }
  });
  return () => server.close();
}

async function grpcJs(): Promise<() => void> {
  const method = {
    path: '/x.Ads/Delta',
    requestStream: true,
    responseStream: true,
    requestSerialize: (m: DeltaDiscoveryRequest) => Buffer.from(toBinary(DeltaDiscoveryRequestSchema, m)),
    requestDeserialize: (b: Buffer) => fromBinary(DeltaDiscoveryRequestSchema, b),
    responseSerialize: (m: typeof answer) => Buffer.from(toBinary(DeltaDiscoveryResponseSchema, m)),
    responseDeserialize: (b: Buffer) => fromBinary(DeltaDiscoveryResponseSchema, b),
  } as const;
  const server = new grpc.Server();
  server.addService({ delta: method } as unknown as grpc.ServiceDefinition, {
    delta: (call: grpc.ServerDuplexStream<DeltaDiscoveryRequest, typeof answer>) => {
      call.on('data', () => call.write(answer));
      call.on('end', () => call.end());
    },
  });
  const port = await new Promise<number>((resolve, reject) =>
    server.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(), (e, p) => (e ? reject(e) : resolve(p))),
  );
  const Client = grpc.makeGenericClientConstructor({ delta: method } as unknown as grpc.ServiceDefinition, 'Ads');
  const client = new Client(`127.0.0.1:${port}`, grpc.credentials.createInsecure());
  await measure('grpc-js', async (rounds) => {
    const call = (
      client as unknown as { delta(): grpc.ClientDuplexStream<DeltaDiscoveryRequest, typeof answer> }
    ).delta();
    await new Promise<void>((resolve, reject) => {
      let left = rounds;
      call.on('error', reject);
      call.on('data', (m: typeof answer) => {
        if (m.resources.length !== 100) reject(new Error('lost resources'));
        left -= 1;
        if (left === 0) {
          call.end();
          resolve();
        } else call.write(create(DeltaDiscoveryRequestSchema, { typeUrl: 'x' }));
      });
      call.write(create(DeltaDiscoveryRequestSchema, { typeUrl: 'x' }));
    });
  });
  return () => {
    client.close();
    server.forceShutdown();
  };
}

for (let round = 0; round < 2; round += 1) {
  (await connect())();
  (await grpcJs())();
}
process.exit(0);

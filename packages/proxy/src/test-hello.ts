import { once } from 'node:events';
import net, { type AddressInfo } from 'node:net';
import type { TestContext } from 'node:test';
import tls from 'node:tls';

/** For tests: the first flight of a TLS client that speaks this protocol. */
export async function clientHello(t: TestContext, alpn: string, servername?: string): Promise<Buffer> {
  const ear = net.createServer();
  t.after(() => ear.close());
  await new Promise<void>((resolve) => ear.listen(0, '127.0.0.1', resolve));
  const { port } = ear.address() as AddressInfo;
  const client = tls.connect({ port, host: '127.0.0.1', servername, ALPNProtocols: [alpn], minVersion: 'TLSv1.3' });
  client.on('error', () => {});
  const [socket] = (await once(ear, 'connection')) as [net.Socket];
  socket.on('error', () => {});
  const [hello] = (await once(socket, 'data')) as [Buffer];
  client.destroy();
  socket.destroy();
  return hello;
}

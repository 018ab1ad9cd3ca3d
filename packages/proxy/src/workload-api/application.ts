/** What the application is given as its own: a key and certificate of the workload's id that the proxy does not use itself. */
import type { Logger } from '@weft/base';
import { type Identity, IdentityClient, removeIdentity, type Trust } from '@weft/identity';

export interface ApplicationIdentityOptions {
  /** Where it is kept, so that a restarted proxy has it while the control plane is away. */
  dir: string;
  spiffeId(): string | undefined;
  signCsr(csrPem: string): Promise<{ chainPem: string; rootPem: string }>;
  logger: Logger;
}

/** Asked of the CA at the first use: most applications never do. */
export class ApplicationIdentity {
  readonly #options: ApplicationIdentityOptions;
  readonly #listeners = new Set<() => void>();
  #client: IdentityClient | undefined;
  #trust: Trust | undefined;

  constructor(options: ApplicationIdentityOptions) {
    this.#options = options;
  }

  get trust(): Trust | undefined {
    return this.#trust;
  }

  /** Undefined while there is none that is valid. */
  get current(): Identity | undefined {
    return this.#client?.valid ? this.#client.current() : undefined;
  }

  /** Called after each new certificate and each change of whom to believe. Returns what takes the listener off. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Begins to ask for a certificate, where that has not begun. */
  want(): void {
    if (this.#client) return;
    const { dir, signCsr, logger, spiffeId } = this.#options;
    const client = new IdentityClient({
      dir,
      signCsr,
      logger,
      spiffeId: spiffeId(),
      onRotate: (next, previous) => {
        // A change of trust is told of by setTrust, once.
        if (this.#client === client && next.serial !== previous?.serial) this.#tell();
      },
    });
    this.#client = client;
    // What an earlier process left is there when this returns, and is judged by what is believed now.
    void client.start();
    if (this.#trust) this.setTrust(this.#trust);
  }

  /** Whom to believe from now on. Where the application's certificate is revoked it is replaced at once. */
  setTrust(trust: Trust): void {
    this.#trust = trust;
    const own = this.#client?.current();
    if (own && trust.bundle.revocations.refusesCertificate(own.issuer, own.serial)) {
      // The number was revoked, not the workload: it gets another key and certificate.
      this.#options.logger.warn({ serial: own.serial }, "the application's certificate is revoked and replaced");
      this.#client?.stop();
      this.#client = undefined;
      removeIdentity(this.#options.dir);
      this.want();
    } else this.#client?.setTrust(trust);
    this.#tell();
  }

  /** Calls back once the application holds a certificate by the key that signs now, where it holds one at all. */
  whenReissued(done: () => void): void {
    const ready = (): boolean => {
      const own = this.#client?.current();
      return own === undefined || this.#trust === undefined || own.signers.includes(this.#trust.issuer);
    };
    if (ready()) {
      done();
      return;
    }
    const off = this.onChange(() => {
      if (!ready()) return;
      off();
      done();
    });
  }

  stop(): void {
    this.#client?.stop();
  }

  #tell(): void {
    for (const listener of this.#listeners) listener();
  }
}

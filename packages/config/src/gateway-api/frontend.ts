/** Certificates of a Gateway's clients: `tls.frontend` of the Gateway, and `tls.frontendValidation` of a listener (before 1.4). */
import type { AuthorityModel } from '@weft/model';
import { type FieldReport, nonEmpty, type Plain, port, str } from '../kinds/common.ts';
import type { ObjectSchema, Schema } from '../schema.ts';
import { namespaceName, objectName } from './common.ts';

const VALUE = 'WEFT-VALUE';

const mode: Schema = {
  t: 'string',
  check: (v) => {
    if (v === 'AllowInsecureFallback') {
      return 'it asks for certificates that nobody judges, and none is passed on to applications: use AllowValidOnly, or remove the validation';
    }
    return v === 'AllowValidOnly' ? undefined : 'it may be AllowValidOnly';
  },
};

export const frontendValidation: ObjectSchema = {
  t: 'object',
  fields: {
    mode,
    caCertificateRefs: {
      t: 'list',
      min: 1,
      max: 8,
      of: {
        t: 'object',
        fields: { group: str, kind: nonEmpty, name: objectName, namespace: namespaceName },
        required: ['kind', 'name'],
      },
    },
  },
  required: ['caCertificateRefs'],
};

/** What holds for several listeners. */
const tlsConfig: ObjectSchema = { t: 'object', fields: { validation: frontendValidation } };

export const gatewayTls: ObjectSchema = {
  t: 'object',
  fields: {
    frontend: {
      t: 'object',
      fields: {
        default: tlsConfig,
        perPort: {
          t: 'list',
          max: 64,
          of: { t: 'object', fields: { port, tls: tlsConfig }, required: ['port', 'tls'] },
        },
      },
      required: ['default'],
    },
  },
  unsupported: ['backend'],
};

/** Who signs the certificates of a listener's clients; empty: none is asked for. */
function authoritiesOf(validation: Plain | undefined, field: string, report: FieldReport): AuthorityModel[] {
  return ((validation?.caCertificateRefs ?? []) as (Plain | undefined)[]).flatMap((ref, i) => {
    if (ref?.name === undefined || ref.kind === undefined) return [];
    const at = `${field}.caCertificateRefs[${i}]`;
    if ((ref.group ?? '') !== '' || (ref.kind !== 'ConfigMap' && ref.kind !== 'Secret')) {
      report(VALUE, 'a CA is in a ConfigMap or a Secret (group "") with the entry ca.crt', `${at}.kind`);
      return [];
    }
    return [{ kind: ref.kind, name: ref.name, namespace: ref.namespace ?? '', field: at }];
  });
}

/** What a Gateway says of the clients of its listeners: what is nearer goes before, listener, port, Gateway. */
export class Frontend {
  readonly #report: FieldReport;
  readonly #all: readonly AuthorityModel[];
  readonly #perPort = new Map<number, { field: string; authorities: readonly AuthorityModel[]; used: boolean }>();
  #usedAll = false;

  constructor(tls: Plain | undefined, report: FieldReport) {
    this.#report = report;
    const field = 'spec.tls.frontend';
    const { default: all, perPort = [] } = (tls?.frontend ?? {}) as Plain;
    this.#all = authoritiesOf(all?.validation, `${field}.default.validation`, report);
    for (const [i, entry] of (perPort as (Plain | undefined)[]).entries()) {
      if (entry?.port === undefined) continue;
      const at = `${field}.perPort[${i}]`;
      if (this.#perPort.has(entry.port)) report(VALUE, `the port ${entry.port} is there twice`, `${at}.port`);
      const authorities = authoritiesOf(entry.tls?.validation, `${at}.tls.validation`, report);
      this.#perPort.set(entry.port, { field: at, authorities, used: false });
    }
  }

  /** Of a listener that ends TLS. `field`: where the listener stands. */
  of(listener: Plain, field: string): readonly AuthorityModel[] {
    const own = listener.tls?.frontendValidation as Plain | undefined;
    const here = this.#perPort.get(listener.port);
    const https = listener.protocol === 'HTTPS';
    if (https) {
      if (here) here.used = true;
      else this.#usedAll = true;
    }
    if (own) return authoritiesOf(own, `${field}.tls.frontendValidation`, this.#report);
    const wider = here ? here.authorities : this.#all;
    if (https || wider.length === 0) return https ? wider : [];
    const message =
      'spec.tls.frontend is for listeners of protocol HTTPS: clients of this one are asked for no certificate unless its own tls.frontendValidation says so';
    this.#report('WEFT-NO-EFFECT', message, field, 'warning');
    return [];
  }

  /** What no listener was asked about. */
  tellUnused(): void {
    for (const [number, { field, used }] of this.#perPort) {
      if (used) continue;
      const message = `no listener of protocol HTTPS has the port ${number}: it says nothing`;
      this.#report('WEFT-NO-EFFECT', message, `${field}.port`, 'warning');
    }
    if (this.#all.length === 0 || this.#usedAll) return;
    const message = 'no listener of protocol HTTPS takes it: it says nothing';
    this.#report('WEFT-NO-EFFECT', message, 'spec.tls.frontend.default', 'warning');
  }
}

/** BackendTLSPolicy: clients begin TLS to the application of a service; and ConfigMap, as far as it holds the CA for it. */
import type { BackendTlsPolicyModel, ConfigMapModel } from '@weft/model';
import { hasPem, type Kind, nonEmpty, type Plain, str } from '../kinds/common.ts';
import { GROUP, hostname, objectName, versions } from './common.ts';

const VALUE = 'WEFT-VALUE';

export const backendTlsPolicyKind: Kind<BackendTlsPolicyModel> = {
  kind: 'BackendTLSPolicy',
  apiVersions: versions('v1', 'v1alpha3'),
  spec: {
    t: 'object',
    fields: {
      targetRefs: {
        t: 'list',
        min: 1,
        max: 16,
        of: {
          t: 'object',
          fields: { group: str, kind: nonEmpty, name: objectName, sectionName: objectName },
          required: ['group', 'kind', 'name'],
        },
      },
      validation: {
        t: 'object',
        fields: {
          hostname,
          wellKnownCACertificates: { t: 'string', enum: ['System'] },
          caCertificateRefs: {
            t: 'list',
            max: 8,
            of: {
              t: 'object',
              fields: { group: str, kind: nonEmpty, name: objectName },
              required: ['group', 'kind', 'name'],
            },
          },
          subjectAltNames: {
            t: 'list',
            max: 5,
            of: {
              t: 'object',
              fields: { type: { t: 'string', enum: ['Hostname', 'URI'] }, hostname, uri: nonEmpty },
              required: ['type'],
            },
          },
        },
        required: ['hostname'],
      },
    },
    required: ['targetRefs', 'validation'],
    unsupported: ['options'],
  },
  specRequired: true,
  build(resource, spec, report, context) {
    const at = 'spec.validation';
    const v = (spec.validation ?? {}) as Plain;
    const refs = ((v.caCertificateRefs ?? []) as (Plain | undefined)[]).entries();
    const configMaps: string[] = [];
    for (const [i, r] of refs) {
      if (!r?.name) continue;
      if (r.group !== '' || r.kind !== 'ConfigMap') {
        report(VALUE, 'a CA is in a ConfigMap (group "") with the entry ca.crt', `${at}.caCertificateRefs[${i}].kind`);
      } else configMaps.push(r.name);
    }
    const broken = report.broken(`${at}.wellKnownCACertificates`);
    if (configMaps.length > 0 === (v.wellKnownCACertificates !== undefined) && !broken) {
      report(VALUE, 'needs exactly one of caCertificateRefs and wellKnownCACertificates', at);
    }
    const names = ((v.subjectAltNames ?? []) as (Plain | undefined)[]).flatMap((s, i) => {
      const name = s?.type === 'URI' ? s.uri : s?.hostname;
      if (s?.type && name === undefined) {
        report('WEFT-FIELD', `needs ${s.type === 'URI' ? 'uri' : 'hostname'}`, `${at}.subjectAltNames[${i}]`);
      }
      return name === undefined ? [] : [name as string];
    });
    const targets = ((spec.targetRefs ?? []) as (Plain | undefined)[]).flatMap((t, i) => {
      if (!t?.name) return [];
      const field = `spec.targetRefs[${i}]`;
      if (t.group !== '' || t.kind !== 'Service') {
        report(VALUE, `a target is a Service (group ""), not a ${t.kind} of "${t.group}"`, `${field}.kind`);
        return [];
      }
      return [{ field, name: t.name as string, sectionName: (t.sectionName ?? '') as string }];
    });
    return { ...resource, created: context.created, targets, hostname: v.hostname ?? '', configMaps, names };
  },
};

export const configMapKind: Kind<ConfigMapModel> = {
  kind: 'ConfigMap',
  apiVersions: ['v1'],
  spec: undefined,
  specRequired: false,
  top: {
    fields: { data: { t: 'map', of: { t: 'string' } }, immutable: { t: 'bool' } },
    unsupported: ['binaryData'],
  },
  build(resource, read, report) {
    const caPem: string = read.data?.['ca.crt'] ?? '';
    if (caPem === '') {
      report(
        'WEFT-FIELD',
        `needs data "ca.crt": of ConfigMaps only the CA for a BackendTLSPolicy or for clients of a Gateway (${GROUP}) is read`,
        'data',
      );
    } else if (!hasPem(caPem, 'CERTIFICATE')) report('WEFT-CERTIFICATE', 'is no PEM of a CERTIFICATE', 'data.ca.crt');
    return { ...resource, caPem };
  },
};

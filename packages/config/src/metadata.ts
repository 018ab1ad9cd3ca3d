/** `metadata`, which every document has. */
import { annotations, checkLabelName, checkName, labels } from './kinds/common.ts';
import type { ObjectSchema } from './schema.ts';

export const any = { t: 'any' } as const;

export const METADATA: ObjectSchema = {
  t: 'object',
  fields: {
    name: { t: 'string', check: checkName },
    namespace: { t: 'string', check: checkLabelName },
    labels,
    annotations,
    creationTimestamp: { t: 'string', check: checkTime },
    deletionTimestamp: any,
    deletionGracePeriodSeconds: any,
    finalizers: any,
    generation: any,
    managedFields: any,
    ownerReferences: any,
    resourceVersion: any,
    selfLink: any,
    uid: any,
  },
  required: ['name'],
  unsupported: ['generateName'],
};

function checkTime(value: string): string | undefined {
  return Number.isNaN(Date.parse(value)) ? 'it is no time such as 2026-01-31T12:00:00Z' : undefined;
}

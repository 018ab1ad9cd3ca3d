/** Metadata, and the kinds that are nothing else. */
import type { Position } from '@weft/base';

export type Labels = Readonly<Record<string, string>>;

/** What every resource has. `source` is where its document begins. */
export interface Resource {
  readonly kind: string;
  readonly name: string;
  readonly namespace: string;
  readonly labels: Labels;
  readonly annotations: Labels;
  readonly source: Position;
}

export type NamespaceModel = Resource;
export type ServiceAccountModel = Resource;

/** Mesh tests against the mesh that files make. */
import type { LabMesh } from '../mesh.ts';
import { type Coverage, coverageOf } from './coverage.ts';
import { judgeTest } from './judge.ts';
import type { MeshTest, TestResult } from './types.ts';

export interface TestRun {
  readonly results: readonly TestResult[];
  readonly failed: number;
  /** Worked out when it is asked for: it looks at the plan of every workload. */
  readonly coverage: Coverage;
}

export function runMeshTests(mesh: LabMesh, tests: readonly MeshTest[]): TestRun {
  const touched = new Set<string>();
  const results = tests.map((test): TestResult => {
    const judged = judgeTest(mesh, test);
    for (const ref of judged.touched) touched.add(ref);
    return judged;
  });
  return {
    results,
    failed: results.filter((r) => r.failures.length > 0).length,
    get coverage() {
      return coverageOf(mesh, touched);
    },
  };
}

/** A whole number of at least 1 from an environment variable, else `standard`. Throws where it is something else. */
export function positive(name: string, standard: number): number {
  const given = process.env[name];
  if (given === undefined || given === '') return standard;
  const n = Number(given);
  if (!Number.isInteger(n) || n < 1) throw new Error(`${name} must be a whole number of at least 1, not "${given}"`);
  return n;
}

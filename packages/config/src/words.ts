/** How messages show lists and labels. */

export function list(names: readonly string[], none: string): string {
  if (names.length === 0) return none;
  const shown = [...names].sort().slice(0, 30).join(', ');
  return names.length > 30 ? `${shown} and ${names.length - 30} more` : shown;
}

export function pairs(labels: Readonly<Record<string, string>>): string {
  return Object.entries(labels)
    .map(([k, v]) => `${k}: ${v}`)
    .join(', ');
}

/**
 * Rows, with the one that is being changed as it was when that began: its form stays where it is,
 * with all that is typed in it, while others change or delete the row.
 *
 * @template {{ readonly id: string }} R
 * @param {readonly R[]} rows in the order of a column
 * @param {R | null} held
 * @param {keyof R} column
 * @returns {readonly R[]}
 */
export function withHeld(rows, held, column) {
  if (!held) return rows;
  const others = rows.filter(({ id }) => id !== held.id);
  const place = others.findIndex((row) => row[column] > held[column]);
  return others.toSpliced(place < 0 ? others.length : place, 0, held);
}

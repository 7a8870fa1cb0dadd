/**
 * Whether all of `text` is what `glob` says: `*` is any characters, `?` is one. After a failure it goes on behind the last
 * `*` only, so that it takes no longer than the one's length times the other's.
 */
export const matchesGlob = (glob: string, text: string): boolean => {
  let g = 0;
  let t = 0;
  let star = -1;
  let resume = 0;
  while (t < text.length) {
    const c = glob.charAt(g);
    if (c === '*') {
      star = g++;
      resume = t;
    } else if (c === '?' || c === text.charAt(t)) {
      g++;
      t++;
    } else if (star >= 0) {
      g = star + 1;
      t = ++resume;
    } else {
      return false;
    }
  }
  while (glob.charAt(g) === '*') g++;
  return g === glob.length;
};

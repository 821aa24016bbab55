// Numbers as people read them. The units of bytes are powers of 1024, as everywhere in bowstring.

const UNITS = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

export const count = (number) => whole.format(number);

/** "1 batch", "2,000 batches". */
export const counted = (number, one, many) => `${count(number)} ${number === 1 ? one : many}`;

export function bytes(number) {
  let value = number;
  let unit = "B";
  for (const larger of UNITS) {
    if (value < 1024) break;
    value /= 1024;
    unit = larger;
  }
  return `${unit === "B" || value >= 100 ? whole.format(value) : value.toFixed(1)} ${unit}`;
}

/** "812", "1.2 k", "3.4 M": a rate is never exact. */
export function short(number) {
  if (number < 10) return number === 0 ? "0" : number.toFixed(1);
  for (const [size, unit] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    if (number >= size) return `${number >= 100 * size ? whole.format(number / size) : (number / size).toFixed(1)} ${unit}`;
  }
  return whole.format(number);
}

/** "340 ms", "2.3 s", "4 min 10 s", "2 h 5 min", "3 d 4 h". */
export function span(seconds) {
  const two = (large, unit, small, rest) => `${large} ${unit}${small ? ` ${small} ${rest}` : ""}`;
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  const all = Math.floor(seconds);
  if (all < 60) return `${all} s`;
  if (all < 3600) return two(Math.floor(all / 60), "min", all % 60, "s");
  if (all < 86400) return two(Math.floor(all / 3600), "h", Math.floor((all % 3600) / 60), "min");
  return two(Math.floor(all / 86400), "d", Math.floor((all % 86400) / 3600), "h");
}

export const percent = (part, all) => (all > 0 ? `${Math.round((100 * part) / all)}%` : "-");

/** The time of day by the coordinator's clock, in this reader's zone. */
export const clock = (at) => new Date(at).toLocaleTimeString("en-GB");

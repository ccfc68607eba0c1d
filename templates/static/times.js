// Times and durations in the reader's words. Nothing here touches a page by itself, so any module may import it.
const MINUTE = 60;

/** Clocks and dates as the reader's own language writes them, which need not be that of the browser's menus. */
export const language = navigator.languages?.length ? [...navigator.languages] : undefined;

/** Write seconds for people: "2 d 3 h 5 min". `units` are the page's words for days, hours, minutes. */
export function words(seconds, soon, units) {
  if (seconds < MINUTE) {
    return soon;
  }
  const [day, hour, minute] = units.split(" ");
  const minutes = Math.floor(seconds / MINUTE);
  const parts = [
    [Math.floor(minutes / 1440), day],
    [Math.floor((minutes % 1440) / 60), hour],
    [minutes % 60, minute],
  ];
  return parts.filter(([number]) => number).map(([number, unit]) => `${number} ${unit}`).join(" ");
}

/** Write a moment (seconds since 1970) as the reader's clock shows it, with the day when it is not today. */
export function clock(moment) {
  const when = new Date(moment * 1000);
  const today = new Date().toDateString() === when.toDateString();
  const style = today ? { timeStyle: "short" } : { dateStyle: "medium", timeStyle: "short" };
  return new Intl.DateTimeFormat(language, style).format(when);
}

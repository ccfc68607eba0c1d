// <time data-local> holds a time in UTC; this shows it as the reader's clock would, and UTC on hovering.
const local = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
for (const element of document.querySelectorAll("time[data-local]")) {
  element.title = element.textContent;
  element.textContent = local.format(new Date(element.dateTime));
}

// <time data-local> holds a time in UTC; this shows it as the reader's clock would, and UTC on hovering.
import { language } from "./times.js";

const local = new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "short" });
for (const element of document.querySelectorAll("time[data-local]")) {
  element.title = element.textContent;
  element.textContent = local.format(new Date(element.dateTime));
}

// A form that starts or ends something is sent once, however often its button is pressed.
for (const form of document.querySelectorAll("form[data-again], form[data-cancel]")) {
  form.addEventListener("submit", (event) => {
    if (form.dataset.sent) {
      event.preventDefault();
      return;
    }
    form.dataset.sent = "yes";
    form.querySelector("button").classList.add("disabled");
  });
}
// A page that was left by a click and is returned to shows what is so now.
addEventListener("pageshow", (event) => {
  if (event.persisted) {
    location.reload();
  }
});

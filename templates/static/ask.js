// A button that ends or removes something asks first: <button data-ask="..." data-ask-text="..." data-ask-yes="...">.
// Without scripts it does at once what it says.
const template = document.querySelector("template[data-ask-dialog]");

async function confirmed(button) {
  const dialog = template.content.firstElementChild.cloneNode(true);
  dialog.querySelector("[data-question]").textContent = button.dataset.ask;
  dialog.querySelector("[data-text]").textContent = button.dataset.askText ?? "";
  dialog.querySelector("[data-yes]").textContent = button.dataset.askYes;
  document.body.append(dialog);
  dialog.showModal();
  await new Promise((closed) => dialog.addEventListener("close", closed, { once: true }));
  dialog.remove();
  return dialog.returnValue === "yes";
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-ask]");
  if (!button || button.dataset.asked) return;
  event.preventDefault();
  if (await confirmed(button)) {
    button.dataset.asked = "yes";
    button.form.requestSubmit(button);
    delete button.dataset.asked;
  } else {
    button.focus();
  }
});

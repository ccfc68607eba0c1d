// JupyterHub's admin page draws buttons that unfold a server's details, and gives them no name. What is around it
// has one, in data-details; here it comes to each, whenever the page is drawn anew.
const place = document.querySelector("[data-details]");

function name() {
  for (const button of place.querySelectorAll("button[aria-controls$=-collapse]:not([aria-label])")) {
    const server = button.getAttribute("aria-controls").slice(0, -"-collapse".length);
    button.setAttribute("aria-label", `${place.dataset.details}: ${server}`);
  }
}

new MutationObserver(name).observe(place, { childList: true, subtree: true });
name();

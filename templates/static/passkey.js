// Passkeys (WebAuthn). An element with data-passkey, inside a form, holds a button and a place for a sentence. It
// is hidden until its button can work: on pages that were opened at the address in data-origin.
//   data-passkey="get"     a challenge comes from data-url; what a passkey answers becomes the field "otp"
//   data-passkey="create"  a passkey is made as data-options (JSON) say; what it answers becomes "credential"
// Then the form is sent.
const toBytes = text =>
  Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), letter => letter.charCodeAt(0));
const toText = buffer =>
  btoa(String.fromCharCode(...new Uint8Array(buffer))).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");

// By hand: PublicKeyCredential.toJSON is younger than many browsers, and some password managers lack it.
function toJson(credential, ...parts) {
  const response = Object.fromEntries(parts.map(part => [part, toText(credential.response[part])]));
  return JSON.stringify({ id: credential.id, rawId: credential.id, type: credential.type, response });
}

async function get(form, place) {
  const body = new URLSearchParams({ _xsrf: form.elements.namedItem("_xsrf").value });
  const answer = await fetch(place.dataset.url, { method: "POST", body });
  if (!answer.ok) {
    throw new Error(`The hub answered ${answer.status}.`);
  }
  const options = await answer.json();
  const publicKey = { ...options, challenge: toBytes(options.challenge) };
  const credential = await navigator.credentials.get({ publicKey });
  return ["otp", toJson(credential, "clientDataJSON", "authenticatorData", "signature")];
}

async function create(form, place) {
  const options = JSON.parse(place.dataset.options);
  const publicKey = {
    ...options,
    challenge: toBytes(options.challenge),
    user: { ...options.user, id: toBytes(options.user.id) },
    excludeCredentials: options.excludeCredentials.map(known => ({ ...known, id: toBytes(known.id) })),
  };
  const credential = await navigator.credentials.create({ publicKey });
  return ["credential", toJson(credential, "clientDataJSON", "attestationObject")];
}

// What the page has to say of an error, by the error's name; without a name: of any other.
function sentence(place, error) {
  const found = place.querySelector(`template[data-sentence="${CSS.escape(error.name)}"]`)
    ?? place.querySelector('template[data-sentence=""]');
  return found.content.textContent;
}

// All but the code, which the passkey stands in for.
const isFilledIn = form =>
  [...form.elements].every(field => field.name === "otp" || field.reportValidity());

function offer(place) {
  const form = place.closest("form");
  const button = place.querySelector("button");
  const told = place.querySelector("[role=alert]");
  const ask = { get, create }[place.dataset.passkey];
  button.addEventListener("click", async () => {
    if (!isFilledIn(form)) {
      return;
    }
    button.disabled = true;
    told.textContent = "";
    try {
      const [name, value] = await ask(form, place);
      // Sent, and never shown in a field.
      form.addEventListener("formdata", event => event.formData.set(name, value), { once: true });
      form.submit();
    } catch (error) {
      console.info("Passkey:", error);
      told.textContent = sentence(place, error);
      button.disabled = false;
    }
  });
  place.hidden = false;
}

for (const place of document.querySelectorAll("[data-passkey]")) {
  if (window.PublicKeyCredential && location.origin === place.dataset.origin) {
    offer(place);
    place.parentElement.querySelector("[data-passkey-missing]")?.remove();
  }
}

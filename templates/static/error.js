// How often the hub was tried is no part of the address: loading the page again begins anew.
const address = new URL(location.href);
if (address.searchParams.has("redirects")) {
  address.searchParams.delete("redirects");
  history.replaceState(null, "", address);
}

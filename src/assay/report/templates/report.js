// The page reads well without this: it only unfolds the gates while it is printed.
addEventListener("beforeprint", () => {
  for (const d of document.querySelectorAll(".gates > li > details:not([open])")) { d.dataset.folded = ""; d.open = true; }
});
addEventListener("afterprint", () => {
  for (const d of document.querySelectorAll("details[data-folded]")) { delete d.dataset.folded; d.open = false; }
});

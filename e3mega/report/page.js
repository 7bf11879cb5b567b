"use strict";
(() => {
  const cards = [...document.querySelectorAll(".card")];
  const stage = document.getElementById("filter-stage");
  const outcome = document.getElementById("filter-outcome");
  const attempts = document.getElementById("filter-attempts");
  const tokens = document.getElementById("filter-tokens");
  const shown = document.getElementById("filter-count");
  if (!stage || !outcome || !attempts || !tokens || !shown) return;
  const apply = () => {
    let count = 0;
    for (const card of cards) {
      const isShown =
        (!stage.value || card.dataset.stage === stage.value) &&
        (!outcome.value || card.dataset.outcome === outcome.value) &&
        Number(card.dataset.attempts) >= Number(attempts.value || 0) &&
        Number(card.dataset.tokens) >= Number(tokens.value || 0);
      card.hidden = !isShown;
      count += isShown ? 1 : 0;
    }
    shown.textContent = `${count} of ${cards.length} shown`;
  };
  for (const control of [stage, outcome, attempts, tokens]) control.addEventListener("input", apply);
  apply();
})();

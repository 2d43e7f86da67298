// Applies the stored colour theme before the first paint.
//
// Why a classic script in the head: a module runs after the first paint, and a white flash at night hurts.
// Invariant: `data-theme` on the root element is "light", "dark" or absent (then the system decides).
(function () {
  "use strict";
  try {
    var theme = localStorage.getItem("holdfast.theme");
    if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  } catch (error) {
    // Storage may be forbidden; the system's preference is a good answer then.
  }
})();

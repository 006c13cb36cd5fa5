// Asks who somebody is, where an account may not do what was asked for; used from memory, never kept, never in the address.

import { NotGiven } from "./orders.js";

export class Login {
  constructor(dialog, orders) {
    this.dialog = dialog;
    this.orders = orders; // () => the present Orders
    this.form = dialog.querySelector("form");
    this.ended = null;
    this.form.addEventListener("submit", (event) => this.#take(event));
    dialog.querySelector("[data-part=cancel]").addEventListener("click", () => dialog.close());
    dialog.addEventListener("close", () => this.#end(false));
  }

  // What `give` resolves to; where another account is needed, asks and gives once more. Raises NotGiven.
  async giving(give) {
    for (;;) {
      try {
        return await give();
      } catch (problem) {
        if (!(problem instanceof NotGiven && problem.needsLogin)) throw problem;
        if (!(await this.#ask(problem.message))) throw problem;
      }
    }
  }

  #ask(why) {
    this.dialog.querySelector("[data-part=why]").textContent = `${why}.`;
    this.dialog.showModal();
    return new Promise((resolve) => {
      this.ended = resolve;
    });
  }

  #take(event) {
    event.preventDefault();
    const { user, password } = this.form.elements;
    this.orders().login(user.value.trim(), password.value);
    this.#end(true);
    this.dialog.close();
  }

  #end(given) {
    this.ended?.(given);
    this.ended = null;
    this.form.elements.password.value = "";
  }
}

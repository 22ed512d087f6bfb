/** Stands for the official client's wallets, by which no page signs anybody in. */
export const createSiweMessage = none;
export const fromHex = none;
export const getAddress = none;
export const toHex = none;

function none() {
  throw new Error("The pages have no wallets.");
}

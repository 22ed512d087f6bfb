/** Stands for the official client's passkeys, by which no page signs anybody in. */
export class WebAuthnApi {}
export const webAuthnAbortService = { cancelCeremony() {} };
export const browserSupportsWebAuthn = () => false;
export const createCredential = none;
export const getCredential = none;
export const deserializeCredentialCreationOptions = none;
export const deserializeCredentialRequestOptions = none;
export const serializeCredentialCreationResponse = none;
export const serializeCredentialRequestResponse = none;

function none() {
  throw new Error("The pages have no passkeys.");
}

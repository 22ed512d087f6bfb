/** Line icons of one weight, 20 by 20. They say nothing to screen readers: the text beside does. */

import { svg, html } from "lit";

/** @param {ReturnType<typeof svg>} drawing */
export function icon(drawing) {
  return html`<svg class="icon" viewBox="0 0 20 20" aria-hidden="true" focusable="false">${drawing}</svg>`;
}

export const icons = {
  calendar: icon(svg`<rect x="3" y="4" width="14" height="13" rx="2" /><path d="M3 8.5h14M7 2.5v3M13 2.5v3" />`),
  invoice: icon(svg`<path d="M5 2.500h10v15l-2.500-1.500-2.500 1.500-2.500-1.500L5 17.500zM8 6.500h4M8 9.500h4M8 12.500h2" />`),
  chat: icon(svg`<path d="M3 5.500a2 2 0 0 1 2-2h10a2 2 0 0 1 2 2v6a2 2 0 0 1-2 2H9l-4 3.500v-3.500a2 2 0 0 1-2-2z" />`),
  gift: icon(svg`<rect x="3" y="7" width="14" height="3.5" rx="1" /><path d="M4.5 10.500V17h11v-6.500M10 7v10M10 7C8 7 6 6.2 6 4.6 6 2.7 9 2.5 10 7zM10 7c2 0 4-.8 4-2.400C14 2.7 11 2.5 10 7z" />`),
  info: icon(svg`<circle cx="10" cy="10" r="7" /><path d="M10 9.500v4M10 6.500v.1" />`),
  close: icon(svg`<path d="M5.5 5.500l9 9M14.5 5.500l-9 9" />`),
  send: icon(svg`<path d="M3.5 10L16.5 4l-4 12.5-2.8-4.700zM9.7 11.800l3-3.3" />`),
  back: icon(svg`<path d="M12 4.500L6.5 10l5.5 5.5" />`),
  down: icon(svg`<path d="M10 4v11M5.5 10.800L10 15.300l4.5-4.5" />`),
  clock: icon(svg`<circle cx="10" cy="10" r="6.5" /><path d="M10 6.500V10l2.3 1.5" />`),
  warning: icon(svg`<path d="M10 3.500L17.5 16h-15zM10 8.500v3.500M10 14v.1" />`),
  person: icon(svg`<circle cx="10" cy="7" r="3.2" /><path d="M4 16.500c.6-3 3-4.5 6-4.500s5.4 1.5 6 4.5" />`),
  phone: icon(svg`<rect x="5.5" y="2.5" width="9" height="15" rx="2" /><path d="M9 15h2" />`),
  call: icon(svg`<path d="M6.500 3.500l1.800 4-1.800 1.500a9 9 0 0 0 4.500 4.500l1.500-1.800 4 1.800v2a1.500 1.500 0 0 1-1.600 1.500A12.500 12.500 0 0 1 3 5.100a1.500 1.500 0 0 1 1.500-1.600z" />`),
  search: icon(svg`<circle cx="9" cy="9" r="5" /><path d="M13 13l4 4" />`),
  plus: icon(svg`<path d="M10 4.500v11M4.5 10h11" />`),
  deleted: icon(svg`<circle cx="10" cy="10" r="6.5" /><path d="M5.5 5.500l9 9" />`),
  mail: icon(svg`<rect x="3" y="4.5" width="14" height="11" rx="2" /><path d="M3.5 6l6.5 5 6.5-5" />`),
  file: icon(svg`<path d="M5.5 2.500h6l3.5 3.500v11.500h-9.500zM11.5 2.500V6H15" />`),
  picture: icon(svg`<rect x="3" y="4" width="14" height="12" rx="2" /><path d="M3.500 14l4-4 3 3 2.500-2.500 3.500 3.500M12.500 8v.1" />`),
  video: icon(svg`<rect x="2.500" y="5" width="10.500" height="10" rx="2" /><path d="M13 8.700l4.500-2.500v7.600L13 11.300" />`),
  sound: icon(svg`<path d="M3.500 8v4h2.800l3.700 3V5L6.300 8zM13 7.500c1.300 1.500 1.300 3.500 0 5M15.200 5.500c2.400 2.700 2.400 6.300 0 9" />`),
  play: icon(svg`<path d="M6.500 4.500v11l9-5.500z" fill="currentcolor" />`),
  pause: icon(svg`<path d="M7 5v10M13 5v10" stroke-width="2.500" />`),
  download: icon(svg`<path d="M10 3.500v9M6 8.800l4 4 4-4M4 16.500h12" />`),
  bin: icon(svg`<path d="M4 6h12M8 6V4h4v2M5.500 6l.8 10.500h7.400L14.500 6M8.500 9v4.500M11.500 9v4.500" />`),
  attach: icon(svg`<path d="M15.500 9.500l-5.700 5.700a3.500 3.500 0 0 1-5-5l6.200-6.200a2.300 2.300 0 0 1 3.300 3.300l-6 6a1.100 1.100 0 0 1-1.600-1.600l5.300-5.300" />`),
  microphone: icon(svg`<rect x="7.500" y="2.500" width="5" height="9" rx="2.500" /><path d="M4.500 9.500a5.500 5.500 0 0 0 11 0M10 15v2.500M7.500 17.500h5" />`),
  template: icon(svg`<rect x="3" y="3.500" width="14" height="13" rx="2" /><path d="M3 8h14M6 11h5M6 13.500h8" />`),
  reply: icon(svg`<path d="M8 4.500L3.500 9 8 13.500M3.500 9H12a4.500 4.500 0 0 1 4.500 4.500v2" />`),
  smile: icon(svg`<circle cx="10" cy="10" r="7" /><path d="M7 12c1.500 2 4.500 2 6 0M7.500 8v.2M12.500 8v.2" />`),
  place: icon(svg`<path d="M10 17.500S4.500 12.500 4.500 8.300a5.500 5.500 0 0 1 11 0c0 4.200-5.500 9.200-5.500 9.200z" /><circle cx="10" cy="8.300" r="1.800" />`),
  sent: icon(svg`<path d="M4.5 10.500l3.5 3.5 7.5-8" />`),
  delivered: icon(svg`<path d="M1.5 10.500L5 14l7.5-8M8.5 12.500L10 14l7.5-8" />`),
};

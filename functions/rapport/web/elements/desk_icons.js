/** Icons of the desk, drawn as those of `icons.js`. */

import { svg } from "lit";
import { icon } from "./icons.js";

export const deskIcons = {
  inbox: icon(svg`<path d="M3 11.500L5.200 4.500h9.600l2.200 7v4H3zM3 11.500h4l1 2h4l1-2h4" />`),
  contacts: icon(svg`<circle cx="8" cy="7.500" r="2.800" /><path d="M2.500 16c.5-2.700 2.800-4 5.500-4s5 1.300 5.500 4M13 4.900a2.700 2.700 0 0 1 0 5.200M14.800 12.400c1.500.5 2.500 1.700 2.700 3.600" />`),
  bell: icon(svg`<path d="M5 13.500V9a5 5 0 0 1 10 0v4.500l1.500 1.500h-13zM8.500 17h3" />`),
  sync: icon(svg`<path d="M4 9a6 6 0 0 1 10.500-3L16 7.500M16 4v3.500h-3.500M16 11a6 6 0 0 1-10.500 3L4 12.500M4 16v-3.500h3.500" />`),
  pulse: icon(svg`<path d="M2.500 10.500H6l2-5.500 3.500 10 2-4.500h4" />`),
  settings: icon(svg`<path d="M3 6h7M14 6h3M3 14h3M10 14h7" /><circle cx="12" cy="6" r="1.900" /><circle cx="8" cy="14" r="1.900" />`),
  tag: icon(svg`<path d="M3.500 9.500v-6h6l7 7-6 6zM6.800 6.800v.1" />`),
  note: icon(svg`<path d="M4 3.500h12v9L12 16.500H4zM12 16.500v-4h4M7 7h6M7 10h3.500" />`),
  snooze: icon(svg`<path d="M15.800 12.200A6.500 6.500 0 0 1 7.800 4.200a6.500 6.500 0 1 0 8 8zM11.500 4.500h4l-4 4.500h4" />`),
  handOver: icon(svg`<path d="M4 7h11.500M12 3.500L15.500 7 12 10.500M16 13.500H4.500M8 10.500L4.500 13.500 8 17" />`),
  check: icon(svg`<path d="M4 10.500l4 4 8-9" />`),
  more: icon(svg`<path d="M4.500 10v.1M10 10v.1M15.500 10v.1" />`),
  unread: icon(svg`<rect x="3" y="5" width="14" height="10.500" rx="1.500" /><path d="M3.500 6l6.500 5 6.500-5" />`),
  eye: icon(svg`<path d="M2 10s3-5.500 8-5.500S18 10 18 10s-3 5.500-8 5.500S2 10 2 10z" /><circle cx="10" cy="10" r="2.300" />`),
  link: icon(svg`<path d="M8.500 11.500a3 3 0 0 0 4.300 0l2.700-2.700a3 3 0 0 0-4.300-4.300l-1 1M11.500 8.500a3 3 0 0 0-4.300 0l-2.700 2.700a3 3 0 0 0 4.300 4.300l1-1" />`),
  copy: icon(svg`<rect x="7" y="7" width="9.500" height="9.500" rx="1.500" /><path d="M13 7V5a1.500 1.500 0 0 0-1.500-1.500H5A1.500 1.500 0 0 0 3.500 5v6.500A1.500 1.500 0 0 0 5 13h2" />`),
  trash: icon(svg`<path d="M4 5.500h12M8 5.500v-2h4v2M5.500 5.500l.7 11h7.600l.7-11" />`),
  pencil: icon(svg`<path d="M4 16l.8-3.500L13 4.300l2.700 2.700-8.200 8.200zM11.500 5.800l2.700 2.700" />`),
  merge: icon(svg`<path d="M5 3.500v3c0 4 5 3.500 5 8v2M15 3.500v3c0 4-5 3.500-5 8M7.500 14L10 16.500l2.500-2.500" />`),
  portal: icon(svg`<circle cx="10" cy="10" r="7" /><path d="M3 10h14M10 3c2.200 2 3.200 4.400 3.200 7s-1 5-3.200 7c-2.200-2-3.200-4.400-3.200-7S7.800 5 10 3z" />`),
  replies: icon(svg`<path d="M11 3L6 11h4l-1 6 5-8h-4z" />`),
};

/** The mark of a conversation's channel. */
export const channelIcons = {
  whatsapp: icon(svg`<path d="M3.500 16.500l1-3.500a6.500 6.500 0 1 1 2.500 2.500zM7.800 7.500c.2 2.300 2.400 4.500 4.700 4.700" />`),
  booking: icon(svg`<rect x="3" y="4" width="14" height="13" rx="2" /><path d="M3 8.500h14M7 2.500v3M13 2.500v3" />`),
  portal: deskIcons.portal,
};

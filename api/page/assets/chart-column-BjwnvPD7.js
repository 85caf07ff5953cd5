<<<<<<<< HEAD:api/page/assets/chart-column-BjwnvPD7.js
import{_ as e,r as t,v as n}from"./Page-CxzcFsmQ.js";var r=new Set([`$$slots`,`$$events`,`$$legacy`]);function i(i,a){let o=e(a,r),s={name:`chart-column`,size:24,node:[[`path`,{d:`M3 3v16a2 2 0 0 0 2 2h16`}],[`path`,{d:`M18 17V9`}],[`path`,{d:`M13 17V5`}],[`path`,{d:`M8 17v-3`}]],aliases:[`bar-chart-3`]};t(i,n(()=>o,{get icon(){return s}}))}export{i as t};
========
import{_ as e,r as t,v as n}from"./Page-CrDStZW8.js";var r=new Set([`$$slots`,`$$events`,`$$legacy`]);function i(i,a){let o=e(a,r),s={name:`chart-column`,size:24,node:[[`path`,{d:`M3 3v16a2 2 0 0 0 2 2h16`}],[`path`,{d:`M18 17V9`}],[`path`,{d:`M13 17V5`}],[`path`,{d:`M8 17v-3`}]],aliases:[`bar-chart-3`]};t(i,n(()=>o,{get icon(){return s}}))}export{i as t};
>>>>>>>> work-tune:api/page/assets/chart-column-R17U1znZ.js

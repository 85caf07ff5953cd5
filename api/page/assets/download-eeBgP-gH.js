<<<<<<<< HEAD:api/page/assets/download-CusnihzN.js
import{_ as e,r as t,v as n}from"./Page-CxzcFsmQ.js";var r=new Set([`$$slots`,`$$events`,`$$legacy`]);function i(i,a){let o=e(a,r),s={name:`download`,size:24,node:[[`path`,{d:`M12 15V3`}],[`path`,{d:`M21 15v4a2 2 0 0 1-2 2H5a2 2 0 0 1-2-2v-4`}],[`path`,{d:`m7 10 5 5 5-5`}]]};t(i,n(()=>o,{get icon(){return s}}))}export{i as t};
========
import{_ as e,r as t,v as n}from"./Page-CrDStZW8.js";var r=new Set([`$$slots`,`$$events`,`$$legacy`]);function i(i,a){let o=e(a,r),s={name:`download`,size:24,node:[[`path`,{d:`M12 15V3`}],[`path`,{d:`M21 15v4a2 2 0 0 1-2 2H5a2 2 0 0 1-2-2v-4`}],[`path`,{d:`m7 10 5 5 5-5`}]]};t(i,n(()=>o,{get icon(){return s}}))}export{i as t};
>>>>>>>> work-tune:api/page/assets/download-eeBgP-gH.js

<<<<<<<< HEAD:api/page/assets/user-round-C7bDcfw5.js
import{_ as e,r as t,v as n}from"./Page-CxzcFsmQ.js";var r=new Set([`$$slots`,`$$events`,`$$legacy`]);function i(i,a){let o=e(a,r),s={name:`user-round`,size:24,node:[[`circle`,{cx:`12`,cy:`8`,r:`5`}],[`path`,{d:`M20 21a8 8 0 0 0-16 0`}]],aliases:[`user-2`]};t(i,n(()=>o,{get icon(){return s}}))}export{i as t};
========
import{_ as e,r as t,v as n}from"./Page-CrDStZW8.js";var r=new Set([`$$slots`,`$$events`,`$$legacy`]);function i(i,a){let o=e(a,r),s={name:`user-round`,size:24,node:[[`circle`,{cx:`12`,cy:`8`,r:`5`}],[`path`,{d:`M20 21a8 8 0 0 0-16 0`}]],aliases:[`user-2`]};t(i,n(()=>o,{get icon(){return s}}))}export{i as t};
>>>>>>>> work-tune:api/page/assets/user-round-D9A2fLip.js
